//! Says who was refused at which file, and what to do about it.
//!
//! "Permission denied" alone does not tell an operator as which user the program tried, which is
//! often not the user that started it, nor which folder on the way to the file is in the way.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Uid, User};

/// A user as the texts name it: by name, or by number without an entry in the user database.
fn name(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => format!("`{}`", user.name),
        _ => uid.to_string(),
    }
}

/// The user that this process runs as, in words: user `postgres`. It may differ from the user that
/// started it.
pub(crate) fn me() -> String {
    format!("user {}", name(Uid::effective()))
}

/// An error at `path` with the user, the owner and the remedy in its text if a permission was
/// missing. Any other error stays as it is; the kind does in any case.
pub(crate) fn explained(error: io::Error, path: &Path) -> io::Error {
    let Some(number) = error.raw_os_error() else { return error };
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let text = format!(
        "{} to {}: {}give that user access with chown or chmod, or start as root with --run-as and \
         another user",
        Errno::from_raw(number).desc(),
        me(),
        owner(path)
    );
    io::Error::new(error.kind(), text)
}

/// Owner and mode of the file, or of the folder before it that lets this user see no further.
pub(crate) fn owner(path: &Path) -> String {
    let found = path.ancestors().find_map(|at| Some((at, fs::metadata(at).ok()?)));
    found.map_or_else(String::new, |(at, meta)| {
        let (owner, mode) = (name(Uid::from_raw(meta.uid())), meta.mode() & 0o7777);
        format!("{} belongs to user {owner} and has mode {mode:04o}; ", at.display())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn denied() -> io::Error {
        Errno::EACCES.into()
    }

    #[test]
    fn names_user_owner_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        let error = explained(denied(), &folder.path().join("no/such"));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        let (me, folder) = (me(), folder.path().display());
        let begin =
            format!("Permission denied to {me}: {folder} belongs to {me} and has mode 0750");
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.contains("chown") && text.contains("--run-as"), "{text}");
        assert!(!text.contains("os error"), "{text}");
        let error = explained(Errno::EPERM.into(), Path::new("/"));
        assert!(error.to_string().starts_with("Operation not permitted to "), "{error}");
    }

    #[test]
    fn other_errors_stay() {
        let error = explained(Errno::ENOENT.into(), Path::new("/x"));
        assert_eq!(error.raw_os_error(), Some(Errno::ENOENT as i32));
        let ours = io::Error::new(io::ErrorKind::PermissionDenied, "ours");
        assert_eq!(explained(ours, Path::new("/x")).to_string(), "ours");
    }

    #[test]
    fn a_user_without_an_entry_is_a_number() {
        assert_eq!(name(Uid::from_raw(4_123_456)), "4123456");
        assert_eq!(name(Uid::from_raw(0)), "`root`");
    }
}
