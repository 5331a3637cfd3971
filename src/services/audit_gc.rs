//! Removes old audit files and shows how much there is (04 §10.4).
//!
//! `pgauditlogtofile` starts a new file every few minutes and never deletes one; rsyslogd has read
//! them long before they are this old. Runs for the rest of the process once audit forwarding is
//! set up. Invariant: only files named `audit*.log` go, and none that was written to within
//! `MAX_AGE`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prometheus::IntGauge;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How old a file gets.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// What one round found and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files removed.
    pub removed: usize,
    /// Bytes in the regular files directly in the folder whose name ends in `log`, afterwards.
    pub bytes: u64,
}

/// Sweeps `folder` at once and then every `every`, for as long as the runtime runs; `size` shows
/// the bytes. Needs a runtime.
pub fn start(folder: PathBuf, size: IntGauge, every: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut healthy = true;
        loop {
            ticks.tick().await;
            let path = folder.clone();
            let swept = tokio::task::spawn_blocking(move || sweep(&path, SystemTime::now()));
            let swept = swept.await.unwrap_or_else(|_| Ok(Swept::default()));
            if let Err(error) = &swept
                && healthy
            {
                // Said once, not every minute; Postgres may not have made the folder yet.
                tracing::warn!("could not look at audit files in {}: {error}", folder.display());
            }
            healthy = swept.is_ok();
            let Swept { removed, bytes } = swept.unwrap_or_default();
            size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            if removed > 0 {
                tracing::info!("removed {removed} old audit files from {}", folder.display());
            }
        }
    })
}

/// One round. Folders below are swept too, but not counted; links are not followed.
///
/// # Errors
/// The folder itself cannot be read. What goes wrong with single entries is passed over: the next
/// round comes.
pub fn sweep(folder: &Path, now: SystemTime) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let mut below = Vec::new();
    sweep_one(folder, now, &mut swept, &mut below)?;
    while let Some(folder) = below.pop() {
        let mut uncounted = Swept::default();
        // Gone meanwhile, or not ours.
        let _ = sweep_one(&folder, now, &mut uncounted, &mut below);
        swept.removed += uncounted.removed;
    }
    Ok(swept)
}

fn sweep_one(
    folder: &Path,
    now: SystemTime,
    swept: &mut Swept,
    below: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let Ok(entry) = entry else { continue };
        // Of the entry itself, also if it is a link.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            below.push(entry.path());
            continue;
        }
        if !meta.is_file() {
            continue;
        }
        let age = meta.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        let old = age.is_some_and(|age| age > MAX_AGE);
        if old && is_audit_file(&entry.file_name()) && fs::remove_file(entry.path()).is_ok() {
            swept.removed += 1;
        } else if entry.file_name().as_bytes().ends_with(b"log") {
            swept.bytes += meta.len();
        }
    }
    Ok(())
}

/// `audit*.log`.
fn is_audit_file(name: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(b"audit");
    rest.is_some_and(|rest| rest.ends_with(b".log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file(path: &Path, bytes: usize, minutes_old: u64) {
        fs::write(path, vec![b'x'; bytes]).unwrap();
        let modified = SystemTime::now() - Duration::from_secs(60 * minutes_old);
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Case R6 of 04 §15.
    #[test]
    fn old_audit_files_go_and_the_rest_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("sub")).unwrap();
        for (name, bytes, minutes_old) in [
            ("audit-a.log", 1, 16),
            ("audit.log", 2, 1000),
            ("audit-b.log", 4, 14),
            ("other.log", 8, 1000),
            ("audit-c.csv", 16, 1000),
            ("xlog", 32, 0),
            ("my-audit.log", 64, 1000),
            ("sub/audit-d.log", 128, 16),
            ("sub/new.log", 256, 0),
        ] {
            file(&path(name), bytes, minutes_old);
        }
        std::os::unix::fs::symlink("other.log", path("audit-link.log")).unwrap();
        fs::create_dir(path("audit-dir.log")).unwrap();

        let swept = sweep(dir.path(), SystemTime::now()).unwrap();
        assert_eq!(swept, Swept { removed: 3, bytes: 4 + 8 + 32 + 64 });
        assert_eq!(
            names(dir.path()),
            [
                "audit-b.log",
                "audit-c.csv",
                "audit-dir.log",
                "audit-link.log",
                "my-audit.log",
                "other.log",
                "sub",
                "xlog"
            ]
        );
        assert_eq!(names(&path("sub")), ["new.log"]);
        // A file from the future stays.
        assert_eq!(sweep(dir.path(), SystemTime::UNIX_EPOCH).unwrap().removed, 0);
    }

    #[tokio::test]
    async fn rounds_go_on_although_the_folder_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        let size = IntGauge::new("n", "h").unwrap();
        size.set(-1);
        let task = start(folder.clone(), size.clone(), Duration::from_millis(1));
        while size.get() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fs::create_dir(&folder).unwrap();
        file(&folder.join("audit-a.log"), 7, 16);
        file(&folder.join("audit-b.log"), 5, 0);
        while size.get() != 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(names(&folder), ["audit-b.log"]);
        task.abort();
    }
}
