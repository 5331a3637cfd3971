//! How far rsyslogd has read its input files (04 W20).
//!
//! Its module `imfile` keeps a small JSON file per input file in the work folder, named by inode,
//! and rewrites it after each batch, as the audit file configures it. `imfile` never removes a
//! state file: a new file with the inode of a deleted one would be read from the old position on.
//!
//! Invariant: only state files that name a file below the given folder are used or removed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Prefix of the names of state files; the inode follows, and perhaps a hash.
const PREFIX: &str = "imfile-state:";
/// Largest state file to read; usual ones have about a hundred bytes.
const MAX_SIZE: u64 = 64 << 10;

/// The members of a state file that are used here.
#[derive(Debug, Deserialize)]
struct State {
    filename: PathBuf,
    curr_offs: u64,
}

/// The state files about the files of one folder.
#[derive(Debug, Default)]
pub(crate) struct ReadPositions {
    /// By inode. One inode can have several state files, with different hashes.
    states: HashMap<u64, Vec<(PathBuf, State)>>,
}

impl ReadPositions {
    /// Reads all state files; `None` if the work folder cannot be read. State files that are just
    /// being written or are of another kind are ignored.
    pub(crate) fn load(work_folder: &Path, folder: &Path) -> Option<Self> {
        let mut positions = Self::default();
        for entry in fs::read_dir(work_folder).ok()?.flatten() {
            let Some(inode) = inode_in(&entry.file_name().to_string_lossy()) else { continue };
            if entry.metadata().map_or(true, |meta| !meta.is_file() || meta.len() > MAX_SIZE) {
                continue;
            }
            let Ok(text) = fs::read(entry.path()) else { continue };
            let Ok(state) = serde_json::from_slice::<State>(&text) else { continue };
            if state.filename.starts_with(folder) {
                positions.states.entry(inode).or_default().push((entry.path(), state));
            }
        }
        Some(positions)
    }

    /// Whether a file of this inode and size was read to its end.
    pub(crate) fn is_read(&self, path: &Path, inode: u64, size: u64) -> bool {
        let states = self.states.get(&inode).into_iter().flatten();
        states.filter(|(_, state)| state.filename == path).any(|(_, state)| state.curr_offs >= size)
    }

    /// Removes the state files of deleted files. Best effort: another user may own them.
    pub(crate) fn remove_stale(&self) {
        for (inode, states) in &self.states {
            for (path, state) in states {
                let there = fs::symlink_metadata(&state.filename);
                if there.map_or(true, |meta| meta.ino() != *inode) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }
}

fn inode_in(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_state_files() {
        assert_eq!(inode_in("imfile-state:10110919"), Some(10_110_919));
        assert_eq!(inode_in("imfile-state:7:0123abcd"), Some(7));
        for other in ["imfile-state:", "imfile-state:x", "7", "mainq.00000001"] {
            assert_eq!(inode_in(other), None);
        }
    }

    #[test]
    fn positions_count_for_their_own_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let (work, logs) = (dir.path().join("work"), dir.path().join("log"));
        assert!(ReadPositions::load(&work, &logs).is_none());
        for folder in [&work, &logs] {
            fs::create_dir(folder).unwrap();
        }
        let put = |name: &str, file: &Path, offset: u64| {
            // The format of rsyslogd.
            let file = file.display().to_string().replace('/', "\\/");
            let text = format!(
                r#"{{ "filename": "{file}", "prev_was_nl": 0, "curr_offs": {offset}, "strt_offs": 0 }}"#
            );
            fs::write(work.join(name), text).unwrap();
        };
        let log = logs.join("audit-a.log");
        fs::write(&log, "12345").unwrap();
        let inode = fs::metadata(&log).unwrap().ino();
        put(&format!("imfile-state:{inode}"), &log, 2);
        put(&format!("imfile-state:{inode}:ab"), &log, 5);
        put(&format!("imfile-state:{inode}:cd"), &logs.join("other.log"), 9);
        put("imfile-state:1", &log, 9);
        put("imfile-state:2", Path::new("/elsewhere/x.log"), 9);
        fs::write(work.join("imfile-state:3"), "{ \"filename\": \"").unwrap();
        fs::create_dir(work.join("imfile-state:4")).unwrap();

        let positions = ReadPositions::load(&work, &logs).unwrap();
        assert!(positions.is_read(&log, inode, 5));
        assert!(!positions.is_read(&log, inode, 6));
        assert!(!positions.is_read(&logs.join("b.log"), inode, 5));
        positions.remove_stale();
        let mut left: Vec<_> = fs::read_dir(&work)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected =
            vec![format!("imfile-state:{inode}"), format!("imfile-state:{inode}:ab")];
        expected.extend(["imfile-state:2", "imfile-state:3", "imfile-state:4"].map(str::to_owned));
        expected.sort();
        assert_eq!(left, expected);
    }
}
