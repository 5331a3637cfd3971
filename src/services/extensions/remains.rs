//! What a killed process has left in Postgres' folders.
//!
//! Whatever is temporary there has a name with our prefix, and is locked by the process that works
//! with it. So what has such a name and can be locked is nobody's any more: another compute may use
//! the same installation.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;

/// Prefix of temporary folders and files. Postgres looks at no hidden names.
pub(super) const TEMP_PREFIX: &str = ".compute_ctl-tmp-";

/// Locks a temporary folder or file for as long as the result is there. Does not wait.
pub(super) fn hold(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes what is nobody's. Errors are logged: it costs room, and nothing else. Blocks.
pub(super) fn remove_remains(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        // Whoever is about to write there says so.
        return;
    };
    let is_temporary =
        |entry: &DirEntry| entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes());
    for entry in entries.flatten().filter(is_temporary) {
        let path = entry.path();
        match remove(&entry) {
            Ok(true) => tracing::info!("removed {}, which was left behind", path.display()),
            Ok(false) => {}
            Err(error) => tracing::warn!("could not remove {}: {error}", path.display()),
        }
    }
}

/// Says whether it was one to be removed.
fn remove(entry: &DirEntry) -> io::Result<bool> {
    // Of the entry itself. A link is not ours, and leads who knows where.
    let kind = entry.file_type()?;
    if !kind.is_dir() && !kind.is_file() {
        return Ok(false);
    }
    let path = entry.path();
    let _held = match hold(&path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        held => held?,
    };
    if kind.is_dir() {
        fs::remove_dir_all(path)?;
    } else {
        fs::remove_file(path)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_is_ours_and_nobody_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (dir.path().join("lib"), dir.path().join("elsewhere"));
        let path = |name: &str| folder.join(name);
        fs::create_dir_all(path(".compute_ctl-tmp-dead/sub")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("file"), "").unwrap();
        symlink(&elsewhere, path(".compute_ctl-tmp-dead/link")).unwrap();
        fs::write(path(".compute_ctl-tmp-dead/sub/x.so"), "").unwrap();
        fs::write(path(".compute_ctl-tmp-file"), "").unwrap();

        let stay = [
            ".compute_ctl-tm",
            ".compute_ctl-tmp",
            ".compute_ctl-tmp-held",
            ".compute_ctl-tmp-link",
            "compute_ctl-tmp-x",
            "x.compute_ctl-tmp-x",
            "x.so",
        ];
        for name in stay.iter().filter(|name| !name.ends_with("-link")) {
            fs::create_dir(path(name)).unwrap();
        }
        symlink(&elsewhere, path(".compute_ctl-tmp-link")).unwrap();
        let held = hold(&path(".compute_ctl-tmp-held")).unwrap();
        let names = || {
            let entries = fs::read_dir(&folder).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        remove_remains(&folder);
        assert_eq!(names(), stay);
        assert!(elsewhere.join("file").is_file());

        drop(held);
        remove_remains(&folder);
        assert!(!names().contains(&".compute_ctl-tmp-held".to_owned()));
        remove_remains(&dir.path().join("none"));
    }
}
