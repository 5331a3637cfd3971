//! A clock of the machine that jumps: libfaketime in the compute and its children, which read the
//! offset from a file at every look at the clock. The monotonic clock stays, as it does when an
//! administrator sets the clock.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::bed::{folder, put};

/// Where Debian has the library.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

pub struct Clock {
    dir: TempDir,
}

impl Clock {
    pub fn new() -> Self {
        let clock = Self { dir: folder("clock") };
        clock.jump(0);
        clock
    }

    /// The environment of a compute with this clock.
    pub fn env(&self) -> [(&'static str, String); 4] {
        let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
        let library =
            library.expect("no libfaketime, deploy/prepare --tests installs it").to_owned();
        let file = self.dir.path().join("offset").display().to_string();
        [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// From now on the clock differs from the real one by so many seconds.
    pub fn jump(&self, seconds: i64) {
        put(&self.dir.path().join("offset.new"), &format!("{seconds:+}\n"));
        fs::rename(self.dir.path().join("offset.new"), self.dir.path().join("offset")).unwrap();
    }
}
