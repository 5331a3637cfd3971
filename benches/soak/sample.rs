//! What a process has at one moment, as `/proc` tells it.

use std::fs;
use std::path::{Path, PathBuf};

use compute_ctl::os::procs;

/// Something that must not grow.
pub struct Quantity {
    pub name: &'static str,
    /// A larger growth in the second half of a run is a leak if it is significant.
    pub bound: f64,
}

/// In the order of the values of a [`Sample`].
pub const QUANTITIES: [Quantity; 8] = [
    // The allocator returns pages in larger pieces.
    Quantity { name: "resident set, KiB", bound: 512.0 },
    Quantity { name: "proportional set, KiB", bound: 512.0 },
    Quantity { name: "private memory, KiB", bound: 512.0 },
    Quantity { name: "descriptors", bound: 0.5 },
    // Threads for blocking work end after ten idle seconds.
    Quantity { name: "threads", bound: 2.0 },
    Quantity { name: "inotify watches", bound: 0.5 },
    Quantity { name: "children", bound: 0.5 },
    Quantity { name: "files", bound: 0.5 },
];

/// A value for each of [`QUANTITIES`].
#[derive(Debug, Clone, Copy)]
pub struct Sample(pub [f64; QUANTITIES.len()]);

impl Sample {
    pub fn take(pid: i32, folders: &[PathBuf]) -> Self {
        let me = PathBuf::from(format!("/proc/{pid}"));
        let rollup = fs::read_to_string(me.join("smaps_rollup")).unwrap();
        let children = procs::all().unwrap().iter().filter(|process| process.ppid == pid).count();
        Self([
            kib(&rollup, "Rss:"),
            kib(&rollup, "Pss:"),
            kib(&rollup, "Private_Clean:") + kib(&rollup, "Private_Dirty:"),
            count(entries(&me.join("fd"))),
            count(entries(&me.join("task"))),
            count(watches(&me.join("fdinfo"))),
            count(children),
            count(folders.iter().map(|folder| entries(folder)).sum()),
        ])
    }

    /// The smaller value of each quantity.
    pub fn least(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].min(other.0[at])))
    }

    /// The larger value of each quantity.
    pub fn most(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }
}

fn kib(rollup: &str, name: &str) -> f64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// A descriptor may be closed before its file is read.
fn watches(fdinfo: &Path) -> usize {
    let files = fs::read_dir(fdinfo).unwrap().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify wd:")).count()).sum()
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
