//! Replaces the content of a file that another program reads (04 W1, W16, W17).
//!
//! A reader sees the old content or the new one, never a mix: a temporary file beside the target
//! takes its place. [`write_beside`] and [`put_in_place`] are the two halves, for callers that act
//! in between. [`replace`] also keeps mode and owner of the old file. Some targets cannot be
//! replaced like that (in a folder that is not ours, such as `/etc` for `/etc/pgbouncer.ini`; a
//! bind-mounted file; an owner that we may not set): those are overwritten in place, and then get
//! their old content back if the new one does not fit on the disk. No temporary file stays behind
//! in either case.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{FallocateFlags, fallocate};
use tempfile::NamedTempFile;

use super::denied::explained;

/// Prefix of temporary files. Hidden, so that an include of `*.conf` does not match them.
pub(crate) const TEMP_PREFIX: &str = ".compute_ctl-tmp-";

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
        move |error| Self { action, path: path.to_owned(), error: explained(error, path) }
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
/// The file cannot be written. With a full disk the old content is still there.
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
        Err(error) if old.is_some_and(|old| old.is_file()) && cannot_swap(&error) => {
            overwrite(&target, content, durability).map_err(FileError::at("write", path))
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

/// Errors after which writing in place can still work. The kind decides: `tempfile` puts the path
/// around an error of the system, which hides its number.
fn cannot_swap(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
    )
}

/// Writes new content into an existing file, whose mode, owner and links stay. Space for a longer
/// content is reserved first, and the file is not truncated before it is written: so a full disk is
/// found before anything changes, or, where a file system cannot reserve, leaves the room in which
/// the old content is put back. A reader may see a mix for the time of one write.
fn overwrite(target: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // The path has no links any more; one that appears now is not followed.
    options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    // Without the right to read there is no old content to put back.
    let file = match options.clone().read(true).open(target) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => options.open(target)?,
        file => file?,
    };
    rewrite(&file, content)?;
    if durability == Durability::Kept {
        file.sync_all()?;
    }
    Ok(())
}

/// Gives an open file another content, or leaves the old one.
fn rewrite(mut file: &File, content: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut old = Vec::new();
    let known = file.read_to_end(&mut old).is_ok();
    let wanted = content.len() as u64;
    if wanted > length
        && let Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) =
            fallocate(file, FallocateFlags::KEEP_SIZE, 0, wanted)
    {
        return Err(io::Error::from(ErrorKind::StorageFull));
    }
    let written = file.write_all_at(content, 0).and_then(|()| file.set_len(wanted));
    if written.is_err() && known {
        // Best effort: the first error is the one to report.
        let _ = file.write_all_at(&old, 0).and_then(|()| file.set_len(length));
    }
    written
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

    /// Runs `work` in a thread that has the rights of an ordinary user on files. The folder and its
    /// files belong to root then, apart from those that `theirs` names.
    fn as_another_user(dir: &Path, theirs: &[&Path], work: impl FnOnce() + Send + 'static) {
        const USER: u32 = 12345;
        let mode = |mode| Permissions::from_mode(mode);
        fs::set_permissions(dir, mode(0o555)).unwrap();
        let root = nix::unistd::geteuid().is_root();
        if root {
            for path in theirs {
                std::os::unix::fs::chown(path, Some(USER), None).unwrap();
            }
        }
        let thread = std::thread::spawn(move || {
            if root {
                // Of this thread only.
                nix::unistd::setfsuid(USER.into());
            }
            work();
        });
        thread.join().unwrap();
        fs::set_permissions(dir, mode(0o755)).unwrap();
    }

    /// `/etc/pgbouncer.ini` in a VM: the file is ours, its folder is not.
    #[test]
    fn a_folder_that_is_not_ours_leaves_writing_in_place() {
        for durability in [Durability::Kept, Durability::Throwaway] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.ini");
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            let link = dir.path().join("link.ini");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            let from = link.clone();
            as_another_user(dir.path(), &[&path], move || {
                for content in ["something longer", "", "new"] {
                    replace(&from, content.as_bytes(), 0o600, durability).unwrap();
                    assert_eq!(fs::read_to_string(&from).unwrap(), content);
                }
            });
            assert!(link.is_symlink());
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            let after = fs::metadata(&path).unwrap();
            assert_eq!(after.permissions().mode() & 0o7777, 0o640);
            assert_eq!(entries(dir.path()), 2, "no temporary file");
        }
    }

    #[test]
    fn a_file_that_may_not_be_written_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ini");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        let (there, missing) = (path.clone(), dir.path().join("none.ini"));
        as_another_user(dir.path(), &[], move || {
            for (path, action) in [(there, "write"), (missing, "replace")] {
                let error = replace(&path, b"new", 0o600, Durability::Kept).unwrap_err();
                assert!(error.action == action, "{error}");
                assert_eq!(error.error.kind(), ErrorKind::PermissionDenied);
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    /// Each error of the two steps that can fail so, with and without the path of `tempfile`.
    #[test]
    fn what_writing_in_place_may_still_get_around() {
        for (number, around) in [
            (libc::EACCES, true),
            (libc::EPERM, true),
            (libc::EROFS, true),
            (libc::EBUSY, true),
            (libc::EXDEV, true),
            (libc::ENOSPC, false),
            (libc::EIO, false),
            (libc::ENOENT, false),
        ] {
            let plain = io::Error::from_raw_os_error(number);
            assert_eq!(cannot_swap(&plain), around, "{plain}");
            let wrapped = io::Error::new(plain.kind(), "at a path");
            assert_eq!(wrapped.raw_os_error(), None);
            assert_eq!(cannot_swap(&wrapped), around, "{wrapped}");
        }
    }

    /// A write that the system cuts short, as a full disk does: a file that may not grow.
    #[test]
    fn a_write_that_does_not_fit_leaves_the_old_content() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let file = File::from(memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap());
        let old = vec![b'o'; 5000];
        file.write_all_at(&old, 0).unwrap();
        fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        rewrite(&file, &[b'n'; 64 << 10]).unwrap_err();
        let mut after = vec![0; 5001];
        assert_eq!(file.read_at(&mut after, 0).unwrap(), 5000);
        assert_eq!(after[..5000], old);
        rewrite(&file, b"short").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}
