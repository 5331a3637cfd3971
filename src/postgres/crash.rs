//! Core dumps that a crashed Postgres leaves in PGDATA (01 §18.6). Their backtraces are logged,
//! because the next start deletes the directory.
//!
//! Best effort within a time limit: a debugger may take minutes for a large core, and the control
//! plane waits for the end of the process (01 §24 no. 46). Invariant: errors are logged and have no
//! other effect.

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
    pgdata: &Path,
    postgres: &Path,
    children: &Children,
    limit: Duration,
) {
    let deadline = Instant::now() + limit;
    let cores = core_dumps(pgdata);
    for (number, core) in cores.iter().enumerate() {
        tracing::warn!("Postgres left a core dump: {}", core.display());
        let left = deadline.saturating_duration_since(Instant::now());
        if number < MAX_CORES && !left.is_zero() {
            backtrace(postgres, core, children, left).await;
        }
    }
}

/// Regular files named `core` or `core.*`, sorted by name.
fn core_dumps(pgdata: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(pgdata) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!("could not look for core dumps in {}: {error}", pgdata.display());
            return Vec::new();
        }
    };
    let named = |name: &OsString| name == "core" || name.as_bytes().starts_with(b"core.");
    let is_file = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    let cores = entries.filter_map(Result::ok).filter(|entry| named(&entry.file_name()));
    let mut cores: Vec<_> = cores.filter(is_file).map(|entry| entry.path()).collect();
    cores.sort();
    cores
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
            for line in [stdout, stderr].iter().flat_map(|text| text.split(|byte| *byte == b'\n')) {
                if !line.is_empty() {
                    tracing::warn!("backtrace: {}", String::from_utf8_lossy(line));
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
        for name in ["core.7", "core", "corel", "score", "core.12"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("core.d")).unwrap();
        let names: Vec<_> = core_dumps(dir.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["core", "core.12", "core.7"]);
        assert!(core_dumps(Path::new("/nonexistent")).is_empty());
    }
}
