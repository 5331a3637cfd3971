//! Stepping down from root.
//!
//! PostgreSQL refuses to run as root, and a container's entry point often is root. The daemon then
//! becomes the user of `--run-as` before it touches PGDATA. As root it only prepares PGDATA: it
//! creates a missing directory, and hands over one that is empty and owned by root. Nothing else
//! changes its owner.
//!
//! The user that gets PGDATA may own its parent folder, and could put a link there to a directory
//! of root. So as root a path is walked component by component, a symbolic link is followed only if
//! the link itself belongs to root, and checks and changes use the open descriptor, never the name
//! again. A directory behind another user's link is left unchanged.
//!
//! Invariant: called before the runtime exists. The C library changes the ids of all threads, but a
//! thread in the middle of an operation would continue it with the wrong ids.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{self, Uid, User};
use rustix::fs::{self, Dir, FileType, Mode, OFlags};

/// Links on one path; the kernel has the same limit.
const MAX_LINKS: usize = 40;
/// Opens the entry of this name itself, even a link, and neither reads nor follows it.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The user if none is named.
const DEFAULT_USER: &str = "postgres";

/// Outcome of [`step_down`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The process is not root; nothing was done.
    NotRoot,
    /// The process now runs as this user.
    Became(String),
}

/// Why the daemon cannot step down.
#[derive(Debug, thiserror::Error)]
pub enum StepDownError {
    /// Not root, and another user is wanted.
    #[error("--run-as {wanted} needs root, but compute_ctl was started as user {current}")]
    NotAllowed {
        /// The user of the flag.
        wanted: String,
        /// The user that the process runs as.
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
    /// The named user has root's id.
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
    #[error("could not prepare the data directory {path} for user `{user}`: {error}")]
    Prepare {
        /// PGDATA.
        path: PathBuf,
        /// The user.
        user: String,
        /// Why.
        error: io::Error,
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
    /// The process could become root again.
    #[error("became user `{0}`, but could have become root again: refusing to go on")]
    Reversible(String),
}

/// Whether [`step_down`] will act: the process is root.
pub fn will_step_down() -> bool {
    Uid::effective().is_root()
}

/// The user, by uid and gid, that Postgres runs as if this process is root; otherwise `None`. For a
/// command that stays root itself.
///
/// # Errors
/// There is no such user.
pub(crate) fn user_for_postgres(run_as: Option<&str>) -> Result<Option<(u32, u32)>, StepDownError> {
    if !will_step_down() {
        return Ok(None);
    }
    choose(run_as).map(|user| Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// Steps down if the process is root; see the module documentation. Without `pgdata` no directory
/// is prepared.
///
/// # Errors
/// See [`StepDownError`]; the daemon must not go on after any of them.
pub fn step_down(run_as: Option<&str>, pgdata: Option<&Path>) -> Result<Outcome, StepDownError> {
    if !will_step_down() {
        return stay(run_as);
    }
    let user = choose(run_as)?;
    if let Some(pgdata) = pgdata {
        prepare(pgdata, &user).map_err(|error| StepDownError::Prepare {
            path: pgdata.to_owned(),
            user: user.name.clone(),
            error,
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

/// Creates PGDATA if only its last component is missing, and hands it over if it is empty and owned
/// by root. This also holds for a directory just created, which may have been replaced since. A
/// missing parent is left to a later check, which reports it.
fn prepare(pgdata: &Path, user: &User) -> io::Result<()> {
    let Some(dir) = find_or_make(pgdata)? else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = fs::openat(dir, c".", flags, Mode::empty())?;
    if fs::fstat(&dir)?.st_uid == 0 && is_empty(&dir)? {
        fchown(dir, owner(user), group(user))?;
    }
    Ok(())
}

/// Opens the directory by the rule of the module; `None` if it is not a directory, has no parent or
/// is behind a link that is not owned by root.
fn find_or_make(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = std::path::absolute(path)?;
    let mut rest: VecDeque<OsString> = names(&path).map(OsStr::to_owned).collect();
    let mut dir = fs::open(c"/", LOOK, Mode::empty())?;
    let (mut links, mut may_make) = (0, true);
    while let Some(name) = rest.pop_front() {
        let is_last = rest.is_empty();
        if is_last && may_make {
            match fs::mkdirat(&dir, &name, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let found = match fs::openat(&dir, &name, LOOK, Mode::empty()) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => dir = found,
            FileType::Symlink if stat.st_uid == 0 && links < MAX_LINKS => {
                links += 1;
                // The target of a link is never created.
                may_make &= !is_last;
                let target = fs::readlinkat(&found, c"", Vec::<u8>::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    dir = fs::open(c"/", LOOK, Mode::empty())?;
                }
                for name in names(target).rev() {
                    rest.push_front(name.to_owned());
                }
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(dir))
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

fn owner(user: &User) -> Option<u32> {
    Some(user.uid.as_raw())
}

fn group(user: &User) -> Option<u32> {
    Some(user.gid.as_raw())
}

/// Whether the directory is empty but for `lost+found`, which a fresh file system has and root
/// keeps.
fn is_empty(dir: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn change(user: &User) -> Result<(), StepDownError> {
    let failed = |what| move |errno| StepDownError::Change { user: user.name.clone(), what, errno };
    let name = std::ffi::CString::new(user.name.as_str())
        .map_err(|_| StepDownError::UnknownUser(user.name.clone()))?;
    // Groups first: only root can set them.
    unistd::initgroups(&name, user.gid).map_err(failed("initgroups"))?;
    unistd::setresgid(user.gid, user.gid, user.gid).map_err(failed("setresgid"))?;
    unistd::setresuid(user.uid, user.uid, user.uid).map_err(failed("setresuid"))?;
    let back = unistd::setresuid(user.uid, Uid::from_raw(0), user.uid);
    if back.is_ok() || Uid::effective() != user.uid || Uid::current() != user.uid {
        return Err(StepDownError::Reversible(user.name.clone()));
    }
    // The change of ids has disabled our own core dumps. Best effort.
    let _ = nix::sys::prctl::set_dumpable(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, lchown, symlink};

    use super::*;

    fn me() -> User {
        User::from_uid(Uid::effective()).unwrap().unwrap()
    }

    #[test]
    fn an_ordinary_user_stays_itself_and_cannot_become_another() {
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

    /// Every user may hand over to itself, so this also runs without root.
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

    /// The user owns the folder and puts links there.
    #[test]
    fn only_links_of_roots_are_followed() {
        if !Uid::effective().is_root() {
            return;
        }
        const USER: u32 = 12345;
        let user = User { uid: Uid::from_raw(USER), gid: USER.into(), ..me() };
        let dir = tempfile::tempdir().unwrap();
        let (roots, home) = (dir.path().join("roots"), dir.path().join("home"));
        for folder in [&roots, &roots.join("empty"), &home] {
            fs::create_dir(folder).unwrap();
        }
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        let link = |target: &Path, name: &str, owner: u32| {
            let link = home.join(name);
            symlink(target, &link).unwrap();
            lchown(&link, Some(owner), Some(owner)).unwrap();
            link
        };
        let empty = roots.join("empty");
        // Directly, through a link owned by root, and in the middle of the path.
        let direct = link(&empty, "direct", USER);
        let second = link(&direct, "second", 0);
        let folder = link(&roots, "folder", USER);
        for pgdata in [&direct, &second, &folder.join("empty"), &folder.join("new")] {
            prepare(pgdata, &user).unwrap();
        }
        assert_eq!(owner(&empty), 0);
        assert!(!roots.join("new").exists());
        // A dangling link of any owner is left alone, and so is a loop.
        prepare(&link(&roots.join("new"), "dangling", 0), &user).unwrap();
        assert!(!roots.join("new").exists());
        prepare(&link(&home.join("loop"), "loop", 0), &user).unwrap();

        let volume = link(Path::new("../roots"), "volume", 0);
        prepare(&volume.join("new"), &user).unwrap();
        assert_eq!(owner(&roots.join("new")), USER);
        prepare(&link(Path::new("volume/empty"), "relative", 0), &user).unwrap();
        assert_eq!(owner(&empty), USER);
        assert_eq!((owner(&roots), owner(&home)), (0, 0));
    }
}
