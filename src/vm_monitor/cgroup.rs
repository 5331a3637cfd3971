//! The memory that the processes of a cgroup use (08 §6): one file, read again and again. Nothing
//! is ever written there. The cgroup may appear later, and vanish.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Where the system mounts cgroup v2.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Magic numbers of `statfs`.
const CGROUP_V1: u64 = 0x0027_e0eb;
const CGROUP_V2: u64 = 0x6367_7270;

/// Largest `memory.stat`; real ones have about 2 KiB.
const LARGEST: u64 = 64 * 1024;

/// Why the use of memory is not known.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The name leads elsewhere.
    #[error("--cgroup is not a relative path without `..`")]
    Name,
    /// This machine has version 1, or none.
    #[error("cgroups v2 not supported: there is no cgroup2 file system at {}", .0.display())]
    NotV2(PathBuf),
    /// The controller is not enabled.
    #[error("could not find memory subsystem: {}/cgroup.controllers does not list it", .0.display())]
    NoController(PathBuf),
    /// It cannot be read.
    #[error("could not read {}: {error}", path.display())]
    Read {
        /// `memory.stat`.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// It can be read, but not understood.
    #[error("{} has no number for active_anon and inactive_anon", .0.display())]
    Content(PathBuf),
}

/// Reads the use of one cgroup.
#[derive(Debug)]
pub struct Reader {
    root: PathBuf,
    /// `memory.stat`; none for an unusable name.
    stat: Option<PathBuf>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Reads nothing yet. `root` is [`CGROUP_ROOT`], or another folder with the same files.
    pub fn new(root: &Path, name: &str) -> Self {
        let normal = |it: Component<'_>| matches!(it, Component::Normal(_) | Component::CurDir);
        let usable = !name.is_empty() && Path::new(name).components().all(normal);
        let stat = usable.then(|| root.join(name).join("memory.stat"));
        Self { root: root.to_owned(), stat, buffer: Vec::new() }
    }

    /// The folder of the cgroup, or its unusable name.
    pub fn folder(&self) -> Option<&Path> {
        self.stat.as_deref().and_then(Path::parent)
    }

    /// Bytes that the kernel cannot take back: anonymous memory, active or not.
    ///
    /// # Errors
    /// The file cannot be read or understood, see [`CgroupError`].
    pub fn read(&mut self) -> Result<u64, CgroupError> {
        let stat = self.stat.as_deref().ok_or(CgroupError::Name)?;
        self.buffer.clear();
        match read_file(stat, &mut self.buffer) {
            Ok(true) => {}
            Ok(false) => return Err(CgroupError::NotV2(self.root.clone())),
            Err(error) => return Err(self.explained(stat, error)),
        }
        anonymous(&self.buffer).ok_or_else(|| CgroupError::Content(stat.to_owned()))
    }

    /// Looks for the usual reasons.
    fn explained(&self, stat: &Path, error: io::Error) -> CgroupError {
        let root = self.root.clone();
        if error.kind() == io::ErrorKind::NotFound {
            if rustix::fs::statfs(&root).is_ok_and(|it| magic(it.f_type) != CGROUP_V2) {
                return CgroupError::NotV2(root);
            }
            let list = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            if !list.split_whitespace().any(|it| it == "memory") {
                return CgroupError::NoController(root);
            }
        }
        CgroupError::Read { path: stat.to_owned(), error }
    }
}

/// The type of a file system; it has another integer type on each architecture.
fn magic(kind: impl TryInto<u64>) -> u64 {
    kind.try_into().unwrap_or_default()
}

/// Opened each time: a held file of a cgroup that was removed, and made again under the same name,
/// would never show the new one. False for a file of cgroup v1, whose numbers mean something else.
fn read_file(path: &Path, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let file = File::open(path)?;
    if magic(rustix::fs::fstatfs(&file)?.f_type) == CGROUP_V1 {
        return Ok(false);
    }
    file.take(LARGEST).read_to_end(buffer)?;
    Ok(true)
}

/// The sum of both members. One that is missing counts 0; without both the file is another one.
fn anonymous(stat: &[u8]) -> Option<u64> {
    let mut sum = None;
    for line in stat.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ');
        if matches!(words.next(), Some(b"active_anon" | b"inactive_anon")) {
            let number: u64 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
            sum = Some(sum.unwrap_or(0_u64).saturating_add(number));
        }
    }
    sum
}

#[cfg(test)]
mod tests;
