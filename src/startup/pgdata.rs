//! The data directory before anything is written to it: lock, check, wipe (01 §9, first step).
//!
//! Every start discards the old content (01 §0). Deleting 20,000 files takes seconds, so the
//! top-level entries are renamed into a trash directory, which is deleted in the background after
//! the start. PGDATA itself is never renamed: it may be a mount point, and the lock is on it.
//!
//! Invariants: without `--force-wipe` only a directory that is empty, a data directory, or half-made
//! is wiped ([`content`]); a wipe that is killed half-way leaves a directory that the next start
//! still recognizes as one of these (the files it is recognized by are moved last). The flag does
//! not help with a directory in which the machine or a volume lives ([`precious`]).

mod content;
mod error;
mod precious;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use content::{
    CONF, Content, INNER_TRASH, PG_VERSION, classify, entries, is_inner_trash, is_trash,
};
pub(crate) use error::PgDataError;
use error::failed;

/// The lock on PGDATA, held while this value lives; the kernel frees it when the process ends in
/// any way.
#[derive(Debug)]
pub(crate) struct PgDataLock {
    _dir: Flock<File>,
}

impl PgDataLock {
    /// Creates PGDATA (0700, one level) if it is missing, and locks it without waiting.
    ///
    /// # Errors
    /// All of [`PgDataError`] but `Foreign`.
    pub(crate) fn acquire(path: &Path) -> Result<Self, PgDataError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(PgDataError::NoParent(path.to_owned()));
            }
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create the data directory", path)(e));
            }
            _ => {}
        }
        let dir =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(path).map_err(
                |e| match e.kind() {
                    io::ErrorKind::NotADirectory => PgDataError::NotADirectory(path.to_owned()),
                    _ => failed("open the data directory", path)(e),
                },
            )?;
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(dir) => Ok(Self { _dir: dir }),
            Err((_, Errno::EWOULDBLOCK)) => Err(PgDataError::Locked(path.to_owned())),
            Err((_, errno)) => Err(failed("lock the data directory", path)(errno.into())),
        }
    }
}

/// The old content, moved aside. Dropping this value without [`Wiped::empty_trash`] leaves the
/// deletion to the next start.
#[derive(Debug)]
#[must_use = "the old content still takes disk space until empty_trash"]
pub(crate) struct Wiped {
    trash: Vec<PathBuf>,
}

impl Wiped {
    /// Deletes the old content and that of crashed predecessors. Blocks for seconds: call it off
    /// the start-up path. What cannot be deleted is logged and left.
    pub(crate) fn empty_trash(self) {
        for dir in self.trash {
            match fs::remove_dir_all(&dir) {
                Ok(()) => tracing::debug!("deleted the old content in {}", dir.display()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!("could not delete {}: {e}", dir.display()),
            }
        }
    }
}

/// Empties the existing directory `path` in a time that depends only on the number of its top-level
/// entries. The caller holds its [`PgDataLock`].
///
/// # Errors
/// `Foreign` without `force` and `Precious`, before anything is changed; `Io` if an entry cannot
/// be moved.
pub(crate) fn wipe(path: &Path, force: bool) -> Result<Wiped, PgDataError> {
    // If PGDATA is a link, the trash goes beside the target.
    let real = fs::canonicalize(path).map_err(failed("resolve", path))?;
    if let Content::Foreign { example } = classify(&real)? {
        if let Some(precious) = precious::judge(&real) {
            return Err(PgDataError::Precious { path: real, example, precious });
        }
        if !force {
            return Err(PgDataError::Foreign { path: path.to_owned(), example });
        }
    }
    // Postgres requires this mode. For a directory of another user, Postgres reports it.
    let meta = fs::metadata(path).map_err(failed("read the mode of", path))?;
    if meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o7777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(failed("set the mode of", path))?;
    }
    let (old_trash, mut names): (Vec<_>, Vec<_>) =
        entries(path)?.into_iter().partition(|n| is_inner_trash(n));
    let mut trash: Vec<PathBuf> = old_trash.iter().map(|n| real.join(n)).collect();
    trash.extend(outer_leftovers(&real));

    if !names.is_empty() {
        let bin = make_trash(&real)?;
        trash.push(bin.clone());
        // The files that identify the directory go last.
        names.sort_by_key(|n| (n == PG_VERSION, n == CONF));
        for name in &names {
            move_aside(&real.join(name), &bin.join(name), |from, to| fs::rename(from, to))?;
        }
    }
    Ok(Wiped { trash })
}

/// `rename` is [`fs::rename`].
fn move_aside(
    from: &Path,
    to: &Path,
    rename: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<(), PgDataError> {
    match rename(from, to) {
        // A mount point inside PGDATA (`pg_wal` on a disk of its own) stays and is emptied.
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy && from.is_dir() => empty_mount(from),
        // A directory from a lower layer of a container's image, which overlayfs does not move, or
        // a project with a quota of its own.
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => delete(from),
        moved => moved.map_err(failed("move aside", from)),
    }
}

fn empty_mount(dir: &Path) -> Result<(), PgDataError> {
    entries(dir)?.iter().try_for_each(|name| delete(&dir.join(name)))
}

/// Deletes an entry at once; a link itself, not its target.
fn delete(path: &Path) -> Result<(), PgDataError> {
    let meta = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let deleted = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    deleted.map_err(failed("delete", path))
}

/// Makes the trash directory inside PGDATA and tries to move it beside PGDATA. That works if, and
/// only if, the entries can also be moved there: the parent is writable, and on the same file
/// system and mount.
fn make_trash(real: &Path) -> Result<PathBuf, PgDataError> {
    // A container has the same process id at each start, so the id alone is not unique.
    let pid = std::process::id();
    let mut inner = real.join(format!("{INNER_TRASH}{pid}"));
    for n in 1.. {
        match DirBuilder::new().mode(0o700).create(&inner) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                inner = real.join(format!("{INNER_TRASH}{pid}-{n}"));
            }
            made => {
                made.map_err(failed("create the trash directory", &inner))?;
                break;
            }
        }
    }
    let Some((parent, prefix)) = outside(real) else { return Ok(inner) };
    let mut outer = parent.join(format!("{prefix}{pid}"));
    for n in 1.. {
        // A rename onto an empty directory replaces it, which does no harm.
        match fs::rename(&inner, &outer) {
            Ok(()) => return Ok(outer),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                outer = parent.join(format!("{prefix}{pid}-{n}"));
            }
            Err(_) => break,
        }
    }
    Ok(inner)
}

/// The directory of the trash beside `real`, and the prefix of its name.
fn outside(real: &Path) -> Option<(&Path, String)> {
    let name = real.file_name()?.to_str()?;
    Some((real.parent()?, format!(".{name}.trash-")))
}

/// The trash of killed predecessors beside PGDATA. Only our own directories count: the parent can
/// be a place like `/tmp`.
fn outer_leftovers(real: &Path) -> Vec<PathBuf> {
    let Some((parent, prefix)) = outside(real) else { return Vec::new() };
    let me = nix::unistd::geteuid().as_raw();
    let Ok(listing) = fs::read_dir(parent) else { return Vec::new() };
    listing
        .flatten()
        .filter(|e| is_trash(&e.file_name(), &prefix))
        .filter(|e| e.metadata().is_ok_and(|m| m.is_dir() && m.uid() == me))
        .map(|e| e.path())
        .collect()
}

#[cfg(test)]
mod tests;
