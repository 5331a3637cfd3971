//! Replaces the content of a file that another program reads (04 W1, W16, W17).
//!
//! A reader sees the old content or the new one, never a mix: a temporary file beside the target
//! takes its place. [`write_beside`] and [`put_in_place`] are the two halves, for callers that act
//! in between. [`replace`] also keeps mode and owner of the old file. Some targets cannot be
//! replaced like that (in a folder that is not ours, such as `/etc` for `/etc/pgbouncer.ini`; a
//! bind-mounted file; an owner that we may not set): those are overwritten in place. No temporary
//! file stays behind in either case.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::libc;
use tempfile::NamedTempFile;

/// Prefix of temporary files. Hidden, so that an include of `*.conf` does not match them.
const TEMP_PREFIX: &str = ".compute_ctl-tmp-";

/// A file could not be read or replaced.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}: {error}", path = path.display())]
pub struct FileError {
    /// The action that failed.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The error of the operating system.
    pub error: io::Error,
}

impl FileError {
    /// Adds action and file to an error of the operating system.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { action, path: path.to_owned(), error }
    }
}

/// Makes a complete temporary file in the folder of `path`, mode 0600, that can take its place;
/// deleted when dropped.
///
/// # Errors
/// The file cannot be made or written.
pub(crate) fn write_beside(
    path: &Path,
    prefix: &str,
    content: &[u8],
) -> Result<NamedTempFile, FileError> {
    let folder = path.parent().unwrap_or(path);
    let mut file = tempfile::Builder::new()
        .prefix(prefix)
        .tempfile_in(folder)
        .map_err(FileError::at("create a temporary file for", path))?;
    file.write_all(content).map_err(FileError::at("write", path))?;
    Ok(file)
}

/// Renames the temporary file to `path`, in one step. Nothing is synced to disk.
///
/// # Errors
/// The rename failed; the old file is still at `path`.
pub(crate) fn put_in_place(file: NamedTempFile, path: &Path) -> Result<(), FileError> {
    file.persist(path).map(drop).map_err(|error| FileError::at("replace", path)(error.error))
}

/// Whether the content has to survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Every start writes the file again.
    Throwaway,
    /// The content cannot be made again.
    Kept,
}

/// Gives `path` this content. A new file gets `mode`, an existing one keeps its mode and owner; a
/// symbolic link stays one.
///
/// # Errors
/// The file cannot be written. With a full disk the old content is still there, unless the file
/// had to be written in place.
pub(crate) fn replace(
    path: &Path,
    content: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), FileError> {
    // The target itself, so that a link is not replaced by a file. A file that is not there yet
    // has no other path.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(&target).ok();
    match swap(&target, content, old.as_ref(), mode, durability) {
        Err(error) if old.is_some() && cannot_swap(&error) => {
            fs::write(&target, content).map_err(FileError::at("write", path))
        }
        result => result.map_err(FileError::at("replace", path)),
    }
}

fn swap(
    target: &Path,
    content: &[u8],
    old: Option<&Metadata>,
    mode: u32,
    durability: Durability,
) -> io::Result<()> {
    let folder = target.parent().unwrap_or_else(|| Path::new("/"));
    let mut temp = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(folder)?;
    temp.write_all(content)?;
    if let Some(old) = old {
        keep_owner(temp.as_file(), old)?;
    }
    // After the owner: a change of owner may clear bits of the mode.
    let mode = old.map_or(mode, |old| old.permissions().mode());
    temp.as_file().set_permissions(Permissions::from_mode(mode & 0o7777))?;
    if durability == Durability::Kept {
        temp.as_file().sync_all()?;
    }
    temp.persist(target).map_err(|error| error.error)?;
    if durability == Durability::Kept {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn keep_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    fchown(file, Some(old.uid()), Some(old.gid()))
}

/// Errors after which writing in place can still work.
fn cannot_swap(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EBUSY | libc::EXDEV)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn mode_and_link_survive_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ini");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&path).unwrap();
        let link = dir.path().join("link.ini");
        std::os::unix::fs::symlink(&path, &link).unwrap();

        replace(&link, b"new", 0o600, Durability::Kept).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.permissions().mode() & 0o7777, 0o640);
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        assert_ne!(after.ino(), before.ino(), "replaced, not overwritten");
        assert_eq!(entries(dir.path()), 2);
    }

    #[test]
    fn a_new_file_gets_the_mode_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.json");
        replace(&path, b"x", 0o644, Durability::Throwaway).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        let error =
            replace(&dir.path().join("no/dir"), b"x", 0o644, Durability::Throwaway).unwrap_err();
        assert!(error.to_string().contains("no/dir"), "{error}");
    }

    #[test]
    fn the_owner_survives() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ini");
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::chown(&path, Some(12345), Some(54321)).unwrap();
        replace(&path, b"new", 0o600, Durability::Throwaway).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid()), (12345, 54321));
    }

    #[test]
    fn a_folder_that_is_not_ours_leaves_writing_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ini");
        fs::write(&path, "something longer").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).unwrap();
        replace(&path, b"new", 0o600, Durability::Kept).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "written in place");
        }
    }
}
