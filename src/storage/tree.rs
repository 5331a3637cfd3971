//! Writes the entries of an archive below the data directory (06 §4.6).
//!
//! Rules: leading `/` and `.` are dropped; a `..` anywhere refuses the whole archive, and so do
//! links and devices; an existing `postgresql.conf` at the top is kept; modes are those of the
//! archive without the umask, except that the owner always keeps access, as Postgres needs it. Long
//! names and extended headers between two files are limited to 1 MiB, because the reader holds them
//! in memory. Times are not set: a pageserver writes "now" into every header (06 §4.1).
//!
//! Invariant: every open uses a directory descriptor and a single name, and does not follow
//! symbolic links, so nothing can be written outside. This is also fast: entries come grouped by
//! directory, and the last directory is kept open.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tar::EntryType;

use super::errors::UnpackError;
use crate::limited::{Budget, HEADERS, Limited};

/// Files are written in pieces of this size.
const WRITE_SIZE: usize = 128 * 1024;
/// Postgres could not open longer paths; the limit also bounds the depth of the tree.
const MAX_PATH: usize = 4096;
/// The configuration that was written before the archive arrives.
const CONF: &str = "postgresql.conf";

/// A data directory that is being filled.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// The last directory that was used.
    last: Option<(PathBuf, OwnedFd)>,
    buffer: Vec<u8>,
}

impl Tree {
    pub(super) fn open(pgdata: &Path) -> Result<Self, UnpackError> {
        let root = open(pgdata, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| local(pgdata, errno))?;
        Ok(Self { root, path: pgdata.to_owned(), last: None, buffer: vec![0; WRITE_SIZE] })
    }

    /// Unpacks a whole archive and counts its entries.
    pub(super) fn unpack(&mut self, source: impl Read) -> Result<u64, UnpackError> {
        // The archive as a whole is limited only by time and disk space.
        let budget = Budget::new(u64::MAX);
        let mut archive = tar::Archive::new(Limited::new(source, &budget));
        // Reading continues after an end-of-archive marker: older servers write one while they
        // fail, before the error itself (06 §3.5).
        archive.set_ignore_zeros(true);
        let mut count = 0;
        budget.piece(HEADERS);
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            budget.piece(entry.size());
            self.entry(&mut entry)?;
            // Reads the rest of a skipped entry.
            io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
            budget.piece(HEADERS);
            count += 1;
        }
        Ok(count)
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            return Ok(());
        }
        // The library ignores records that it cannot read: the entry would get another name.
        for record in entry.pax_extensions().map_err(broken)?.into_iter().flatten() {
            record.map_err(broken)?;
        }
        let path = relative_path(&entry.path_bytes())?;
        let refused = match kind {
            EntryType::Symlink => Some("a symbolic link"),
            EntryType::Link => Some("a hard link"),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Some("a device"),
            EntryType::GNUSparse => Some("a sparse file"),
            _ => None,
        };
        if let Some(kind) = refused {
            return Err(UnpackError::Kind { path, kind });
        }
        let Some(name) = path.file_name() else { return Ok(()) };
        if path == Path::new(CONF) {
            tracing::warn!("the archive holds a {CONF}, which is ignored: ours stays");
            return Ok(());
        }
        let mode = Mode::from_bits_truncate(entry.header().mode().unwrap_or(0o600) & 0o777);
        if kind.is_dir() {
            let directory = self.directory(&path).map_err(|errno| in_entry(&path, errno))?;
            return fchmod(directory, mode | Mode::S_IRWXU).map_err(|errno| local(&path, errno));
        }
        let file = self.create(&path, name, mode).map_err(|errno| in_entry(&path, errno))?;
        self.copy(entry, file, &path)
    }

    fn create(&mut self, path: &Path, name: &OsStr, mode: Mode) -> Result<File, Errno> {
        let directory = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let mode = mode | Mode::S_IRUSR | Mode::S_IWUSR;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(directory, name, flags, mode) {
            Err(Errno::EEXIST) => {
                unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?;
                openat(directory, name, flags, mode)?
            }
            other => other?,
        };
        if mode.intersects(Mode::S_IRWXG | Mode::S_IRWXO) {
            // Undoes the umask; the usual 0600 is not affected by it.
            fchmod(&file, mode)?;
        }
        Ok(File::from(file))
    }

    fn copy(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        mut file: File,
        path: &Path,
    ) -> Result<(), UnpackError> {
        let size = entry.size();
        let mut copied: u64 = 0;
        loop {
            let n = match entry.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            let piece = self.buffer.get(..n).unwrap_or_default();
            file.write_all(piece)
                .map_err(|error| UnpackError::Local { path: path.to_owned(), error })?;
            copied += n as u64;
        }
        if copied != size {
            // The tar reader reports the end of its source as the end of the file.
            return Err(UnpackError::Truncated { path: path.to_owned(), copied, size });
        }
        Ok(())
    }

    /// Opens a directory and creates missing directories on the path.
    fn directory(&mut self, path: &Path) -> Result<&OwnedFd, Errno> {
        if path.as_os_str().is_empty() {
            return Ok(&self.root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut current: Option<OwnedFd> = None;
            for name in path {
                let parent = current.as_ref().unwrap_or(&self.root);
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let next = match openat(parent, name, flags, Mode::empty()) {
                    Err(Errno::ENOENT) => {
                        mkdirat(parent, name, Mode::S_IRWXU)?;
                        openat(parent, name, flags, Mode::empty())?
                    }
                    other => other?,
                };
                current = Some(next);
            }
            self.last = current.map(|directory| (path.to_owned(), directory));
        }
        Ok(self.last.as_ref().map_or(&self.root, |(_, directory)| directory))
    }

    /// Creates `neon.signal` from its old name, because old pageservers send only that (06 §4.3).
    pub(super) fn fix_signal_files(&self) -> Result<(), UnpackError> {
        let [new, old] = ["neon.signal", "zenith.signal"].map(|name| self.path.join(name));
        let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        if !is_file(&new) && is_file(&old) {
            fs::copy(old, &new).map_err(|error| UnpackError::Local { path: new, error })?;
        }
        Ok(())
    }
}

/// Removes what a failed try left: everything in the data directory except `postgresql.conf` and
/// what is not part of a cluster, that is, the trash of the wipe and the `lost+found` of a mount
/// point.
pub(crate) fn clean_for_retry(pgdata: &Path) -> Result<(), UnpackError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| UnpackError::Local { path, error }
    };
    for entry in fs::read_dir(pgdata).map_err(failed(pgdata))? {
        let entry = entry.map_err(failed(pgdata))?;
        let name = entry.file_name();
        let is_trash = name.as_bytes().starts_with(b".compute_ctl.trash-");
        if is_trash || name == CONF || name == "lost+found" {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().map_err(failed(&path))?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path))?;
    }
    Ok(())
}

/// Converts an error of the tar reader.
fn broken(error: io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => UnpackError::Headers,
        _ => UnpackError::Tar(error),
    }
}

/// The path of an entry below the root; empty when it names the root itself.
fn relative_path(bytes: &[u8]) -> Result<PathBuf, UnpackError> {
    let path = Path::new(OsStr::from_bytes(bytes));
    if bytes.len() > MAX_PATH {
        return Err(in_entry(Path::new("(a long path)"), Errno::ENAMETOOLONG));
    }
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(UnpackError::Climbing(OsString::from(path).display().to_string()));
            }
        }
    }
    Ok(relative)
}

/// Classifies an error. In a fresh directory some errors can only come from a contradiction within
/// the archive (a file used as a directory, an impossible name); all others are local problems.
fn in_entry(path: &Path, errno: Errno) -> UnpackError {
    match errno {
        Errno::ENOTDIR
        | Errno::EISDIR
        | Errno::EEXIST
        | Errno::ENOTEMPTY
        | Errno::ELOOP
        | Errno::EINVAL
        | Errno::ENAMETOOLONG => UnpackError::Entry { path: path.to_owned(), error: errno.into() },
        _ => local(path, errno),
    }
}

fn local(path: &Path, errno: Errno) -> UnpackError {
    UnpackError::Local { path: path.to_owned(), error: errno.into() }
}
