//! The data directory before anything is written to it: lock, check, wipe (01 §9, first step).
//!
//! Every start discards the old content (01 §0). Deleting 20,000 files takes seconds, so the
//! top-level entries are renamed into a trash directory, which is deleted in the background after
//! the start. PGDATA itself is never renamed: it may be a mount point, and the lock is on it.
//!
//! Invariants: without `--force-wipe` only a directory that is empty, a data directory, or
//! half-made by us is wiped; a wipe that is killed half-way leaves a directory that the next start
//! still recognizes as one of these (the files it is recognized by are moved last).

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::postgres::conf::CONF_HEADING;
use crate::postgres::files::TEMP_PREFIX;

/// Prefix of the trash inside PGDATA; the trash beside it is `.<name>.trash-<pid>`.
const INNER_TRASH: &str = ".compute_ctl.trash-";
/// The file that identifies a data directory.
const PG_VERSION: &str = "PG_VERSION";
/// The file that identifies a half-made directory, if it begins with [`CONF_HEADING`].
const CONF: &str = "postgresql.conf";

/// Why a directory cannot be used as PGDATA.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PgDataError {
    /// The parent is missing.
    #[error(
        "the data directory {0} cannot be created because its parent directory does not exist: \
         create the parent, or give another path with --pgdata"
    )]
    NoParent(PathBuf),
    /// Something else has this name.
    #[error("{0} is not a directory: give another path with --pgdata")]
    NotADirectory(PathBuf),
    /// The lock is held.
    #[error(
        "another compute_ctl is working on the data directory {0}: end it first, or give \
         another path with --pgdata"
    )]
    Locked(PathBuf),
    /// Neither Postgres' data nor ours.
    #[error(
        "refusing to wipe {path}: it is not a Postgres data directory (it contains {example:?}). \
         Give another path with --pgdata, or delete its content with --force-wipe"
    )]
    Foreign {
        /// PGDATA.
        path: PathBuf,
        /// One of the entries that are not ours.
        example: OsString,
    },
    /// The operating system refused.
    #[error("could not {action} {path}: {error}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PgDataError + 'a {
    move |error| PgDataError::Io { action, path: path.to_owned(), error }
}

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

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing, or only leftovers of our own.
    Empty,
    /// Has `PG_VERSION`.
    DataDirectory,
    /// Has our `postgresql.conf`, but no `PG_VERSION`: an earlier start was killed.
    HalfMade,
    /// Anything else.
    Foreign {
        /// One of the entries.
        example: OsString,
    },
}

/// Classifies `path` by its top level.
///
/// # Errors
/// The directory, or its `postgresql.conf`, cannot be read.
pub(crate) fn classify(path: &Path) -> Result<Content, PgDataError> {
    let names = entries(path)?;
    let foreign = names.iter().find(|n| !is_inner_trash(n) && !is_temp(n));
    let Some(example) = foreign else { return Ok(Content::Empty) };
    let is_file = |name| fs::symlink_metadata(path.join(name)).is_ok_and(|m| m.is_file());
    Ok(if is_file(PG_VERSION) {
        Content::DataDirectory
    } else if is_file(CONF) && has_heading(&path.join(CONF))? {
        Content::HalfMade
    } else {
        Content::Foreign { example: example.clone() }
    })
}

/// Whether the first line is our heading.
fn has_heading(conf: &Path) -> Result<bool, PgDataError> {
    let mut file = File::open(conf).map_err(failed("open", conf))?;
    let mut start = [0; CONF_HEADING.len() + 1];
    match file.read_exact(&mut start) {
        Ok(()) => Ok(start.strip_prefix(CONF_HEADING.as_bytes()) == Some(b"\n".as_slice())),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(failed("read", conf)(e)),
    }
}

/// Top-level names except `lost+found`, which belongs to the file system of a mount point.
fn entries(path: &Path) -> Result<Vec<OsString>, PgDataError> {
    let names = fs::read_dir(path).and_then(|listing| {
        let names = listing.map(|entry| Ok(entry?.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut names = names.map_err(failed("list the directory", path))?;
    names.retain(|name| name != "lost+found");
    Ok(names)
}

fn is_temp(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
}

fn is_inner_trash(name: &OsStr) -> bool {
    is_trash(name, INNER_TRASH)
}

/// Whether `name` is `prefix` and a process id, optionally with a counter behind a dash.
fn is_trash(name: &OsStr, prefix: &str) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(prefix.as_bytes());
    rest.is_some_and(|r| !r.is_empty() && r.iter().all(|b| b.is_ascii_digit() || *b == b'-'))
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
/// `Foreign` without `force`, before anything is changed; `Io` if an entry cannot be moved.
pub(crate) fn wipe(path: &Path, force: bool) -> Result<Wiped, PgDataError> {
    if let Content::Foreign { example } = classify(path)?
        && !force
    {
        return Err(PgDataError::Foreign { path: path.to_owned(), example });
    }
    // Postgres requires this mode. For a directory of another user, Postgres reports it.
    let meta = fs::metadata(path).map_err(failed("read the mode of", path))?;
    if meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o7777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(failed("set the mode of", path))?;
    }
    // If PGDATA is a link, the trash goes beside the target.
    let real = fs::canonicalize(path).map_err(failed("resolve", path))?;
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
            move_aside(&real.join(name), &bin.join(name))?;
        }
    }
    Ok(Wiped { trash })
}

fn move_aside(from: &Path, to: &Path) -> Result<(), PgDataError> {
    match fs::rename(from, to) {
        // A mount point inside PGDATA (`pg_wal` on a disk of its own) stays and is emptied.
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy && from.is_dir() => empty_mount(from),
        moved => moved.map_err(failed("move aside", from)),
    }
}

fn empty_mount(dir: &Path) -> Result<(), PgDataError> {
    for name in entries(dir)? {
        let path = dir.join(name);
        let meta = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
        let deleted =
            if meta.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        deleted.map_err(failed("delete", &path))?;
    }
    Ok(())
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
mod tests {
    use super::*;

    /// A directory with PGDATA in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let pgdata = dir.path().join("data");
        fs::create_dir(&pgdata).unwrap();
        (dir, pgdata)
    }

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_lock_makes_pgdata_and_refuses_a_second_holder() {
        let dir = tempfile::tempdir().unwrap();
        let pgdata = dir.path().join("data");
        let lock = PgDataLock::acquire(&pgdata).unwrap();
        assert_eq!(fs::metadata(&pgdata).unwrap().mode() & 0o777, 0o700);
        let error = PgDataLock::acquire(&pgdata).unwrap_err();
        assert!(matches!(error, PgDataError::Locked(_)));
        assert!(error.to_string().contains("another compute_ctl"), "{error}");
        drop(lock);
        PgDataLock::acquire(&pgdata).unwrap();
    }

    #[test]
    fn a_missing_parent_and_a_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error = PgDataLock::acquire(&dir.path().join("a/b")).unwrap_err();
        assert!(matches!(error, PgDataError::NoParent(_)), "{error}");
        put(dir.path().join("file"), "");
        let error = PgDataLock::acquire(&dir.path().join("file")).unwrap_err();
        assert!(matches!(error, PgDataError::NotADirectory(_)), "{error}");
    }

    #[test]
    fn directories_are_classified_by_their_files() {
        let (_dir, pgdata) = place();
        let content = || classify(&pgdata).unwrap();
        assert_eq!(content(), Content::Empty);
        fs::create_dir(pgdata.join("lost+found")).unwrap();
        put(pgdata.join(format!("{INNER_TRASH}1-2/PG_VERSION")), "");
        put(pgdata.join(format!("{TEMP_PREFIX}x1")), "half");
        assert_eq!(content(), Content::Empty);
        put(pgdata.join(CONF), "# foreign\n");
        assert_eq!(content(), Content::Foreign { example: CONF.into() });
        put(pgdata.join(CONF), &format!("{CONF_HEADING}\nport=1\n"));
        put(pgdata.join("pg_wal/1"), "");
        assert_eq!(content(), Content::HalfMade);
        put(pgdata.join(PG_VERSION), "15\n");
        assert_eq!(content(), Content::DataDirectory);
    }

    #[test]
    fn a_foreign_directory_is_left_alone_unless_forced() {
        let (dir, pgdata) = place();
        put(pgdata.join("thesis.tex"), "");
        fs::set_permissions(&pgdata, Permissions::from_mode(0o755)).unwrap();
        let error = wipe(&pgdata, false).unwrap_err().to_string();
        assert!(error.contains("--force-wipe") && error.contains("thesis.tex"), "{error}");
        assert_eq!(names(&pgdata), ["thesis.tex"]);
        assert_eq!(fs::metadata(&pgdata).unwrap().mode() & 0o777, 0o755);
        wipe(&pgdata, true).unwrap().empty_trash();
        assert!(names(&pgdata).is_empty());
        assert_eq!(names(dir.path()), ["data"]);
    }

    #[test]
    fn a_wipe_keeps_the_directory_and_picks_up_old_trash() {
        let (dir, pgdata) = place();
        let inode = fs::metadata(&pgdata).unwrap().ino();
        put(pgdata.join(PG_VERSION), "15\n");
        put(pgdata.join("base/1/1259"), "x");
        fs::create_dir(pgdata.join("lost+found")).unwrap();
        // The name for this process is taken, as at each start of a PID 1.
        let taken = dir.path().join(format!(".data.trash-{}", std::process::id()));
        put(taken.join("PG_VERSION"), "");
        put(pgdata.join(format!("{INNER_TRASH}77/x")), "");
        put(dir.path().join(".data.trash-mine/x"), "");
        let wiped = wipe(&pgdata, false).unwrap();
        assert_eq!(names(&pgdata), [format!("{INNER_TRASH}77").as_str(), "lost+found"]);
        assert_eq!(wiped.trash.len(), 3);
        wiped.empty_trash();
        assert_eq!(names(&pgdata), ["lost+found"]);
        assert_eq!(names(dir.path()), [".data.trash-mine", "data"]);
        let meta = fs::metadata(&pgdata).unwrap();
        assert_eq!((meta.ino(), meta.mode() & 0o777), (inode, 0o700));
    }

    #[test]
    fn a_link_is_wiped_where_it_leads() {
        let (dir, pgdata) = place();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&pgdata, &link).unwrap();
        put(pgdata.join(PG_VERSION), "15\n");
        wipe(&link, false).unwrap().empty_trash();
        assert_eq!(names(dir.path()), ["data", "link"]);
        assert!(names(&pgdata).is_empty());
    }

    #[test]
    fn trash_that_cannot_be_moved_out_stays_inside() {
        if nix::unistd::geteuid().is_root() {
            return; // Root may write everywhere.
        }
        let (dir, pgdata) = place();
        put(pgdata.join(PG_VERSION), "15\n");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
        let wiped = wipe(&pgdata, false).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(classify(&pgdata).unwrap(), Content::Empty);
        wiped.empty_trash();
        assert!(names(&pgdata).is_empty());
    }
}
