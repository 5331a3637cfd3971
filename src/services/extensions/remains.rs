//! Removes what a killed process has left in Postgres' folders.
//!
//! A temporary file or folder there has a name with our prefix, and the process that uses it holds
//! a lock on it, because another compute may use the same installation. So an entry with such a
//! name that can be locked is left over.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;

/// Prefix of temporary folders and files. Postgres ignores hidden names.
pub(super) const TEMP_PREFIX: &str = ".compute_ctl-tmp-";

/// Locks a temporary folder or file until the result is dropped. Does not wait for the lock.
pub(super) fn hold(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes left-over entries. Errors are only logged, because these entries cost only room. Blocks.
pub(super) fn remove_remains(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        // A write to this folder will report the error.
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

/// Removes an entry if it is left over; returns whether it did.
fn remove(entry: &DirEntry) -> io::Result<bool> {
    // The type of the entry itself: this program makes no links here, so a link stays.
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
    use std::time::{Duration, Instant};

    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_unlocked_entries_with_the_prefix_are_removed() {
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
        // A child that another test starts at this moment has a copy of the lock until its exec.
        let deadline = Instant::now() + Duration::from_secs(30);
        while names().contains(&".compute_ctl-tmp-held".to_owned()) {
            assert!(Instant::now() < deadline, "{:?}", names());
            remove_remains(&folder);
            std::thread::yield_now();
        }
        remove_remains(&dir.path().join("none"));
    }
}
