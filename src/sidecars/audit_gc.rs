//! Removes old audit files and measures the size of their folder (04 §10.4).
//!
//! `pgauditlogtofile` starts a new file every few minutes and never deletes one; usually rsyslogd
//! has read a file long before it is this old. If rsyslogd has not, because no collector can be
//! reached, the file is removed all the same, since the disk is finite, and the loss of records is
//! logged as an error (04 W20). The task runs from the setup of audit forwarding until the sidecars
//! are dropped. Invariant: it removes only files named `audit*.log`, and none that was written to
//! within `MAX_AGE`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prometheus::IntGauge;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::imfile_state::ReadPositions;

/// Files older than this are removed.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// Result of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Files removed.
    pub removed: usize,
    /// Removed files that rsyslogd had not read to the end.
    pub unread: usize,
    /// Bytes left in the regular files directly in the folder whose name ends in `log`.
    pub bytes: u64,
}

/// Sweeps `folder` at once and then at each interval `every`, until the handle is dropped; `size`
/// shows the bytes. rsyslogd stores its read positions in `work_folder`. Needs a runtime.
pub(crate) fn start(
    folder: PathBuf,
    work_folder: PathBuf,
    size: IntGauge,
    every: Duration,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut healthy = true;
        loop {
            ticks.tick().await;
            let (path, work) = (folder.clone(), work_folder.clone());
            let sweep = move || sweep(&path, &work, SystemTime::now());
            let swept =
                tokio::task::spawn_blocking(sweep).await.unwrap_or_else(|_| Ok(Swept::default()));
            if let Err(error) = &swept
                && healthy
            {
                // Logged once, not every minute; Postgres may not have made the folder yet.
                tracing::warn!("could not look at audit files in {}: {error}", folder.display());
            }
            healthy = swept.is_ok();
            let Swept { removed, unread, bytes } = swept.unwrap_or_default();
            size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            if removed > 0 {
                tracing::info!("removed {removed} old audit files from {}", folder.display());
            }
            if unread > 0 {
                tracing::error!(
                    "{unread} of them had not been read to the end by rsyslogd, their audit \
                     records are lost: does rsyslogd run, and can it reach the collector?"
                );
            }
        }
    }))
}

/// One round. Folders below are swept too, but not counted; links are not followed.
///
/// # Errors
/// The folder itself cannot be read. Errors of single entries are ignored: the next round tries
/// again.
pub(crate) fn sweep(folder: &Path, work_folder: &Path, now: SystemTime) -> io::Result<Swept> {
    let positions = ReadPositions::load(work_folder, folder);
    let mut swept = Swept::default();
    let mut below = Vec::new();
    // Even without the folder, stale positions of an earlier data directory are removed below.
    let top = sweep_one(folder, now, positions.as_ref(), &mut swept, &mut below);
    while let Some(folder) = below.pop() {
        let mut uncounted = Swept::default();
        // The folder may be gone by now, or not readable.
        let _ = sweep_one(&folder, now, positions.as_ref(), &mut uncounted, &mut below);
        swept.removed += uncounted.removed;
        swept.unread += uncounted.unread;
    }
    if let Some(positions) = &positions {
        positions.remove_stale();
    }
    top.map(|()| swept)
}

fn sweep_one(
    folder: &Path,
    now: SystemTime,
    positions: Option<&ReadPositions>,
    swept: &mut Swept,
    below: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let Ok(entry) = entry else { continue };
        // The metadata of the entry itself, even if it is a link.
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
            let is_read = |at: &ReadPositions| at.is_read(&entry.path(), meta.ino(), meta.len());
            swept.unread += usize::from(positions.is_some_and(|at| !is_read(at)));
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

        let nowhere = dir.path().join("no-work-folder");
        let swept = sweep(dir.path(), &nowhere, SystemTime::now()).unwrap();
        assert_eq!(swept, Swept { removed: 3, unread: 0, bytes: 4 + 8 + 32 + 64 });
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
        let swept = sweep(dir.path(), &nowhere, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(swept.removed, 0);
    }

    /// 04 W20: files that were not forwarded are removed as well, but not silently.
    #[test]
    fn removed_before_it_was_read() {
        let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, offset) in
            [("audit-a.log", Some(5)), ("audit-b.log", Some(4)), ("audit-c.log", None)]
        {
            let path = dir.path().join(name);
            file(&path, 5, 16);
            if let Some(offset) = offset {
                let inode = fs::metadata(&path).unwrap().ino();
                let state =
                    format!(r#"{{"filename": "{}", "curr_offs": {offset}}}"#, path.display());
                fs::write(work.path().join(format!("imfile-state:{inode}")), state).unwrap();
            }
        }
        let swept = sweep(dir.path(), work.path(), SystemTime::now()).unwrap();
        assert_eq!(swept, Swept { removed: 3, unread: 2, bytes: 0 });
        assert!(names(work.path()).is_empty(), "no position for the next file with the inode");
    }

    #[tokio::test]
    async fn rounds_go_on_although_the_folder_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("log");
        let size = IntGauge::new("n", "h").unwrap();
        size.set(-1);
        let work = dir.path().join("work");
        let task = start(folder.clone(), work, size.clone(), Duration::from_millis(1));
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
