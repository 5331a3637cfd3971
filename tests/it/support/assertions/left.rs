//! The check at the end of a scenario: no process is left.

use std::path::Path;
use std::time::{Duration, Instant};

use compute_ctl::os::procs;

use crate::support::bed::Bed;

/// The kernel may take a moment to remove killed processes.
const MOMENT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Fails if a process runs in the bed's folder or names it on its command line.
#[track_caller]
pub fn assert_nothing_left(bed: &Bed) {
    assert_nothing_left_in(bed.dir());
}

/// Fails if a process runs in the folder or names it on its command line.
#[track_caller]
pub fn assert_nothing_left_in(dir: &Path) {
    let deadline = Instant::now() + MOMENT;
    loop {
        let left = left(dir);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:?}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

fn left(dir: &Path) -> Vec<String> {
    let dir = dir.canonicalize().unwrap();
    let text = dir.display().to_string();
    let me = std::process::id().cast_signed();
    let mut left = Vec::new();
    for process in procs::all().unwrap() {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let here = procs::cwd(process.pid).is_some_and(|cwd| cwd.starts_with(&dir));
        if process.pid != me && (here || line.contains(&text)) {
            left.push(format!("{} {line}", process.pid));
        }
    }
    left
}
