//! Stepping down from root.
//!
//! PostgreSQL refuses to run as root, and a container's entry point often is root. The daemon
//! then becomes the user of `--run-as` before it touches PGDATA. As root it only prepares the
//! place: it makes a missing PGDATA, and hands over one that is empty and root's own. Nothing
//! else changes its owner.
//!
//! Invariant: called before the runtime exists. The C library changes the ids of all threads,
//! but a thread that is half-way through something would go on with the wrong ones.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{self, Uid, User};

/// The user that is taken when nobody names one.
const DEFAULT_USER: &str = "postgres";

/// What [`step_down`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not root, nothing done.
    NotRoot,
    /// We are this user now.
    Became(String),
}

/// Why the daemon does not go on as root.
#[derive(Debug, thiserror::Error)]
pub enum StepDownError {
    /// Not root, and another user is wanted.
    #[error("--run-as {wanted} needs root, but compute_ctl was started as user {current}")]
    NotAllowed {
        /// The user of the flag.
        wanted: String,
        /// The user we are.
        current: String,
    },
    /// Root, no flag, no default user.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` to step down to: \
         name an ordinary user with --run-as"
    )]
    NoUser,
    /// The named user does not exist.
    #[error("there is no user `{0}` (--run-as)")]
    UnknownUser(String),
    /// The named user is root, by whatever name.
    #[error("--run-as {0} is root, and PostgreSQL refuses to run as root: name an ordinary user")]
    RootWanted(String),
    /// The user database cannot be read.
    #[error("could not look up user `{user}`: {errno}")]
    Lookup {
        /// The user.
        user: String,
        /// Why.
        errno: Errno,
    },
    /// PGDATA could not be made or handed over.
    #[error("could not prepare the data directory {path} for user `{user}`: {source}")]
    Prepare {
        /// PGDATA.
        path: PathBuf,
        /// The user.
        user: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the change of ids.
    #[error("could not become user `{user}`: {what}: {errno}")]
    Change {
        /// The user.
        user: String,
        /// The call.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The change could be taken back.
    #[error("became user `{0}`, but could have become root again: refusing to go on")]
    Reversible(String),
}

/// Whether [`step_down`] has something to do: we are root.
pub fn will_step_down() -> bool {
    Uid::effective().is_root()
}

/// Steps down if we are root; see the module's head. Without `pgdata` no directory is prepared.
///
/// # Errors
/// See [`StepDownError`]; the daemon must not go on after any of them.
pub fn step_down(run_as: Option<&str>, pgdata: Option<&Path>) -> Result<Outcome, StepDownError> {
    if !will_step_down() {
        return stay(run_as);
    }
    let user = choose(run_as)?;
    if let Some(pgdata) = pgdata {
        prepare(pgdata, &user).map_err(|source| StepDownError::Prepare {
            path: pgdata.to_owned(),
            user: user.name.clone(),
            source,
        })?;
    }
    change(&user)?;
    Ok(Outcome::Became(user.name))
}

fn stay(run_as: Option<&str>) -> Result<Outcome, StepDownError> {
    let Some(wanted) = run_as else { return Ok(Outcome::NotRoot) };
    let user = lookup(wanted)?.ok_or_else(|| StepDownError::UnknownUser(wanted.to_owned()))?;
    let me = Uid::effective();
    if user.uid == me {
        return Ok(Outcome::NotRoot);
    }
    let current = match User::from_uid(me) {
        Ok(Some(user)) => user.name,
        _ => me.to_string(),
    };
    Err(StepDownError::NotAllowed { wanted: wanted.to_owned(), current })
}

fn lookup(name: &str) -> Result<Option<User>, StepDownError> {
    User::from_name(name).map_err(|errno| StepDownError::Lookup { user: name.to_owned(), errno })
}

fn choose(run_as: Option<&str>) -> Result<User, StepDownError> {
    let user = match run_as {
        Some(name) => lookup(name)?.ok_or_else(|| StepDownError::UnknownUser(name.to_owned()))?,
        None => lookup(DEFAULT_USER)?.ok_or(StepDownError::NoUser)?,
    };
    if user.uid.is_root() {
        return Err(StepDownError::RootWanted(user.name));
    }
    Ok(user)
}

/// Makes PGDATA if only that is missing, or hands it over if it is root's and empty. A missing
/// parent is left to the check that comes later and reports it.
fn prepare(pgdata: &Path, user: &User) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(pgdata) {
        Ok(()) => return fchown(open_dir(pgdata)?, owner(user), group(user)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    let dir = match open_dir(pgdata) {
        // Not a directory, or a link that leads nowhere: not ours to prepare.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
            return Ok(());
        }
        dir => dir?,
    };
    if dir.metadata()?.uid() == 0 && is_empty(pgdata)? {
        fchown(dir, owner(user), group(user))?;
    }
    Ok(())
}

fn open_dir(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(path)
}

fn owner(user: &User) -> Option<u32> {
    Some(user.uid.as_raw())
}

fn group(user: &User) -> Option<u32> {
    Some(user.gid.as_raw())
}

/// A fresh file system has a `lost+found`, which root keeps.
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn change(user: &User) -> Result<(), StepDownError> {
    let failed = |what| move |errno| StepDownError::Change { user: user.name.clone(), what, errno };
    let name = std::ffi::CString::new(user.name.as_str())
        .map_err(|_| StepDownError::UnknownUser(user.name.clone()))?;
    // Groups first: without root they cannot be set any more.
    unistd::initgroups(&name, user.gid).map_err(failed("initgroups"))?;
    unistd::setresgid(user.gid, user.gid, user.gid).map_err(failed("setresgid"))?;
    unistd::setresuid(user.uid, user.uid, user.uid).map_err(failed("setresuid"))?;
    let back = unistd::setresuid(user.uid, Uid::from_raw(0), user.uid);
    if back.is_ok() || Uid::effective() != user.uid || Uid::current() != user.uid {
        return Err(StepDownError::Reversible(user.name.clone()));
    }
    // The change of ids has switched our own core dumps off. Best effort.
    let _ = nix::sys::prctl::set_dumpable(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> User {
        User::from_uid(Uid::effective()).unwrap().unwrap()
    }

    #[test]
    fn an_ordinary_user_stays_itself_and_nobody_else() {
        if Uid::effective().is_root() {
            return;
        }
        let here = Some(Path::new("/"));
        assert_eq!(step_down(None, here).unwrap(), Outcome::NotRoot);
        assert_eq!(step_down(Some(&me().name), here).unwrap(), Outcome::NotRoot);
        let error = step_down(Some("root"), here).unwrap_err().to_string();
        assert!(error.contains("--run-as root needs root"), "{error}");
    }

    #[test]
    fn root_and_unknown_users_are_refused_with_the_flags_name() {
        let refused = choose(Some("root")).unwrap_err();
        assert!(matches!(refused, StepDownError::RootWanted(_)), "{refused}");
        let unknown = choose(Some("no-such-user-here")).unwrap_err().to_string();
        assert!(unknown.contains("--run-as"), "{unknown}");
        assert!(StepDownError::NoUser.to_string().contains("--run-as"));
    }

    /// Handing over to oneself is allowed for everybody, so this runs without root, too.
    #[test]
    fn prepare_makes_only_the_directory_itself() {
        let dir = tempfile::tempdir().unwrap();
        let pgdata = dir.path().join("data");
        prepare(&pgdata, &me()).unwrap();
        assert_eq!(fs::metadata(&pgdata).unwrap().mode() & 0o777, 0o700);
        prepare(&pgdata, &me()).unwrap();
        prepare(&dir.path().join("a/b"), &me()).unwrap();
        assert!(!dir.path().join("a").exists());
        fs::write(dir.path().join("file"), "").unwrap();
        prepare(&dir.path().join("file"), &me()).unwrap();
    }

    #[test]
    fn a_directory_with_content_keeps_its_owner() {
        if !Uid::effective().is_root() {
            return;
        }
        let other = User { uid: Uid::from_raw(12345), gid: 12345.into(), ..me() };
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        prepare(dir.path(), &other).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 0);
        fs::remove_file(dir.path().join("file")).unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        prepare(dir.path(), &other).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().uid(), 12345);
        assert_eq!(fs::metadata(dir.path().join("lost+found")).unwrap().uid(), 0);
    }
}
