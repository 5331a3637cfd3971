//! A disk of its own for a data directory, which can be filled.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::bed::{folder, hand_over};

/// Holds two copies of the data directory, and fills in no time.
const SIZE: &str = "size=224m";

/// A file system in memory.
pub struct SmallDisk {
    at: PathBuf,
    /// Takes the rest of the space. It has no name, so that no wipe of a folder frees it.
    filler: Option<File>,
}

impl SmallDisk {
    /// Whether this user may mount: root, with more rights than it has in a container.
    pub fn can_be_had() -> bool {
        let place = folder("mount");
        let can = mount(place.path());
        unmount(place.path());
        can
    }

    /// Makes the folder, on a disk of its own.
    pub fn at(place: PathBuf) -> Self {
        std::fs::create_dir(&place).unwrap();
        assert!(mount(&place), "no mount");
        hand_over(&place);
        Self { at: place, filler: None }
    }

    /// Takes all space that is left.
    pub fn fill(&mut self) {
        let name = self.at.join("filler");
        let mut filler = File::create(&name).unwrap();
        std::fs::remove_file(&name).unwrap();
        let piece = vec![0; 1 << 20];
        for size in [piece.len(), 1 << 12] {
            let full = loop {
                if let Err(error) = filler.write_all(&piece[..size]) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
        self.filler = Some(filler);
    }

    /// Gives the space back.
    pub fn free(&mut self) {
        // A child of another cell, between its fork and its exec, may hold the file a little longer.
        if let Some(filler) = self.filler.take() {
            filler.set_len(0).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

fn mount(at: &Path) -> bool {
    let options = ["-t", "tmpfs", "-o", SIZE, "tmpfs"];
    Command::new("mount").args(options).arg(at).output().is_ok_and(|output| output.status.success())
}

/// Lazily: a process of the bed may be about to end.
fn unmount(at: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(at).output();
}
