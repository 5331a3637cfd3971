//! Core dumps that a crashed Postgres leaves in PGDATA, or in the folder of Lakebase mode (01 §18.6).
//! Their backtraces are logged, because the next start deletes PGDATA.
//!
//! Best effort within a time limit: a debugger may take minutes for a large core, and the control
//! plane waits for the end of the process (01 §24 no. 46). Invariant: errors are logged and have no
//! other effect.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use crate::os::children::{Children, Output, RunError};

/// Limit for each of the two outputs of a debugger.
const OUTPUT_LIMIT: usize = 64 << 10;
/// Backends that crash in a row usually have the same backtrace.
const MAX_CORES: usize = 3;
/// Unset for gdb, which would otherwise fetch symbols over the network.
const DEBUGINFOD: &str = "DEBUGINFOD_URLS";

/// Finds core dumps and logs a backtrace of each. `limit` is for all of them together.
pub(crate) async fn log_core_dumps(
    folder: &Path,
    postgres: &Path,
    children: &Children,
    limit: Duration,
) {
    let deadline = Instant::now() + limit;
    let cores = core_dumps(folder);
    for (number, core) in cores.iter().enumerate() {
        tracing::warn!("core dump found: {}, collecting backtrace", core.display());
        let left = deadline.saturating_duration_since(Instant::now());
        if number < MAX_CORES && !left.is_zero() {
            backtrace(postgres, core, children, left).await;
        }
    }
}

/// Regular files named `core` or `core.*`, the newest first: a folder that is not wiped still has
/// those of earlier runs.
fn core_dumps(folder: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!("error while checking for core dumps: {}: {error}", folder.display());
            return Vec::new();
        }
    };
    let named = |name: &OsString| name == "core" || name.as_bytes().starts_with(b"core.");
    let is_file = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    let cores = entries.filter_map(Result::ok).filter(|entry| named(&entry.file_name()));
    let changed = |entry: &std::fs::DirEntry| entry.metadata().and_then(|it| it.modified()).ok();
    let cores = cores.filter(is_file).map(|entry| (Reverse(changed(&entry)), entry.path()));
    let mut cores: Vec<_> = cores.collect();
    cores.sort();
    cores.into_iter().map(|(_, path)| path).collect()
}

/// Runs gdb, or lldb if gdb is not installed.
async fn backtrace(postgres: &Path, core: &Path, children: &Children, limit: Duration) {
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "-q", "-ex", "bt"]).arg(postgres).arg(core).env_remove(DEBUGINFOD);
    let mut said = children.run(gdb, limit, OUTPUT_LIMIT).await;
    if is_missing(&said) {
        let mut lldb = Command::new("lldb");
        lldb.arg("-c").arg(core).args(["--batch", "-o", "bt all", "-o", "quit"]);
        said = children.run(lldb, limit, OUTPUT_LIMIT).await;
        if is_missing(&said) {
            tracing::warn!("no backtrace: there is neither gdb nor lldb on this machine");
            return;
        }
    }
    match said {
        Ok(Output { stdout, stderr, .. }) => {
            for (said_as, text) in [("core dump backtrace", stdout), ("debugger stderr", stderr)] {
                for line in String::from_utf8_lossy(&text).lines().filter(|line| !line.is_empty()) {
                    tracing::warn!("{said_as}: {line}");
                }
            }
        }
        Err(error) => tracing::warn!("no backtrace: {error}"),
    }
}

fn is_missing(said: &Result<Output, RunError>) -> bool {
    matches!(said, Err(RunError::Spawn { error, .. })
        if error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_a_core_dump() {
        let dir = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now();
        for (name, age) in [("core.7", 0), ("core", 9), ("corel", 1), ("score", 1), ("core.12", 5)]
        {
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        std::fs::create_dir(dir.path().join("core.d")).unwrap();
        let names: Vec<_> = core_dumps(dir.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["core.7", "core.12", "core"]);
        assert!(core_dumps(Path::new("/nonexistent")).is_empty());
    }
}
