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
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{self, Gid, Group, Uid, User};
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

/// The user that was asked for, by name or number, with or without a group: `USER[:GROUP]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    user: &'a str,
    origin: Origin,
}

impl<'a> Wanted<'a> {
    /// `None` if no user was asked for.
    pub fn from(user: Option<&'a str>, by_variable: bool) -> Option<Self> {
        let origin = if by_variable { Origin::Variable } else { Origin::Flag };
        user.map(|user| Self { user, origin })
    }
}

/// Where the user was named; `Display` is a remark for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The flag.
    Flag,
    /// The variable.
    Variable,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "",
            Self::Variable => " (from the variable COMPUTE_CTL_RUN_AS)",
        })
    }
}

/// A user and its groups, with or without an entry in the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Its name, or its number as text.
    name: String,
    uid: Uid,
    gid: Gid,
    /// The name whose supplementary groups it gets.
    member: Option<String>,
}

/// Why the daemon cannot step down.
#[derive(Debug, thiserror::Error)]
pub enum StepDownError {
    /// Not root, and another user is wanted.
    #[error("--run-as {wanted} needs root, but compute_ctl was started as user {current}{origin}")]
    NotAllowed {
        /// The user of the flag.
        wanted: String,
        /// Where it was named.
        origin: Origin,
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
    #[error("there is no user `{0}` (--run-as){1}: give a name or a number, as in USER[:GROUP]")]
    UnknownUser(String, Origin),
    /// The named group does not exist.
    #[error("there is no group `{0}` (--run-as){1}: give a name or a number, as in USER[:GROUP]")]
    UnknownGroup(String, Origin),
    /// The named user has root's id.
    #[error(
        "--run-as {0} is root, and PostgreSQL refuses to run as root: name an ordinary user{1}"
    )]
    RootWanted(String, Origin),
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
pub(crate) fn user_for_postgres(
    wanted: Option<Wanted<'_>>,
) -> Result<Option<(u32, u32)>, StepDownError> {
    if !will_step_down() {
        wanted.map(lookup).transpose()?;
        return Ok(None);
    }
    choose(wanted).map(|user| Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// Steps down if the process is root; see the module documentation. Without `pgdata` no directory
/// is prepared.
///
/// # Errors
/// See [`StepDownError`]; the daemon must not go on after any of them.
pub fn step_down(
    wanted: Option<Wanted<'_>>,
    pgdata: Option<&Path>,
) -> Result<Outcome, StepDownError> {
    if !will_step_down() {
        return stay(wanted);
    }
    let user = choose(wanted)?;
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

fn stay(wanted: Option<Wanted<'_>>) -> Result<Outcome, StepDownError> {
    let Some(wanted) = wanted else { return Ok(Outcome::NotRoot) };
    let user = lookup(wanted)?;
    let me = Uid::effective();
    if user.uid == me {
        return Ok(Outcome::NotRoot);
    }
    let current = match User::from_uid(me) {
        Ok(Some(user)) => user.name,
        _ => me.to_string(),
    };
    let Wanted { user, origin } = wanted;
    Err(StepDownError::NotAllowed { wanted: user.to_owned(), origin, current })
}

/// As `chown` reads it: a name comes before a number. A number needs no entry in the user database;
/// then the group has the same number, unless it is given.
fn lookup(Wanted { user: text, origin }: Wanted<'_>) -> Result<Target, StepDownError> {
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    let failed = |errno| StepDownError::Lookup { user: name.to_owned(), errno };
    let mut user = User::from_name(name).map_err(failed)?;
    if user.is_none()
        && let Some(uid) = number(name)
    {
        user = User::from_uid(uid.into()).map_err(failed)?;
        if user.is_none() {
            let (uid, gid) = (uid.into(), uid.into());
            let bare = Target { name: name.to_owned(), uid, gid, member: None };
            return with_group(bare, group, origin);
        }
    }
    let user = user.ok_or_else(|| StepDownError::UnknownUser(text.to_owned(), origin))?;
    with_group(user.into(), group, origin)
}

/// A group that is given replaces all of the user's.
fn with_group(user: Target, group: Option<&str>, origin: Origin) -> Result<Target, StepDownError> {
    let Some(name) = group else { return Ok(user) };
    let found = Group::from_name(name)
        .map_err(|errno| StepDownError::Lookup { user: name.to_owned(), errno })?;
    let gid = found.map(|group| group.gid).or_else(|| number(name).map(Gid::from_raw));
    let gid = gid.ok_or_else(|| StepDownError::UnknownGroup(name.to_owned(), origin))?;
    Ok(Target { gid, member: None, ..user })
}

/// An id; the largest number means "no change" to the kernel.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

impl From<User> for Target {
    fn from(User { name, uid, gid, .. }: User) -> Self {
        Self { member: Some(name.clone()), name, uid, gid }
    }
}

fn choose(wanted: Option<Wanted<'_>>) -> Result<Target, StepDownError> {
    let default = Wanted { user: DEFAULT_USER, origin: Origin::Flag };
    let user = match (wanted, lookup(wanted.unwrap_or(default))) {
        (None, Err(StepDownError::UnknownUser(..))) => return Err(StepDownError::NoUser),
        (_, user) => user?,
    };
    if user.uid.is_root() {
        return Err(StepDownError::RootWanted(user.name, wanted.unwrap_or(default).origin));
    }
    Ok(user)
}

/// Creates PGDATA if only its last component is missing, and hands it over if it is empty and owned
/// by root. This also holds for a directory just created, which may have been replaced since. A
/// missing parent is left to a later check, which reports it.
fn prepare(pgdata: &Path, user: &Target) -> io::Result<()> {
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

fn owner(user: &Target) -> Option<u32> {
    Some(user.uid.as_raw())
}

fn group(user: &Target) -> Option<u32> {
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

fn change(user: &Target) -> Result<(), StepDownError> {
    let failed = |what| move |errno| StepDownError::Change { user: user.name.clone(), what, errno };
    // Groups first: only root can set them.
    match &user.member {
        Some(name) => {
            let name = std::ffi::CString::new(name.as_str())
                .map_err(|_| StepDownError::UnknownUser(user.name.clone(), Origin::Flag))?;
            unistd::initgroups(&name, user.gid).map_err(failed("initgroups"))?;
        }
        None => unistd::setgroups(&[user.gid]).map_err(failed("setgroups"))?,
    }
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
mod tests;
