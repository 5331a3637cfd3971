//! Detects when Postgres accepts connections (01 §10): the last line of `postmaster.pid` is
//! `ready`.
//!
//! The file is read when it changes, so readiness is detected at once. The watch starts before
//! Postgres is spawned; otherwise an earlier change would be missed.
//!
//! Invariant: the wait ends with readiness, the child's exit, or the deadline, whichever is first.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::files::POSTMASTER_PID as PID_FILE;

/// Interval between reads without file events.
const POLL: Duration = Duration::from_millis(50);
/// Interval between reads with file events: some file systems accept a watch but report nothing.
const SAFETY_LOOK: Duration = Duration::from_millis(250);
/// The file has eight short lines; a longer one is cut.
const MAX_FILE: u64 = 16 << 10;

/// Why Postgres is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadyError {
    /// Postgres ended first. The code is -1 if a signal ended it.
    #[error("Postgres exited unexpectedly with code {code}{}", quote(.last_lines))]
    Exited {
        /// Exit code, or -1.
        code: i32,
        /// The full exit status.
        status: ExitStatus,
        /// The end of its log; the owner of the log adds it.
        last_lines: Vec<String>,
    },
    /// Postgres runs, but did not become ready in time.
    #[error("Postgres did not become ready within {limit:?}: postmaster.pid {said}")]
    TimedOut {
        /// The deadline that passed.
        limit: Duration,
        /// The last state in the pid file.
        said: String,
    },
    /// The child's status could not be read.
    #[error("could not wait for Postgres: {0}")]
    Wait(io::Error),
}

fn quote(lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        lines => format!("; the end of its log:\n{}", lines.join("\n")),
    }
}

/// A watch on PGDATA. Its thread ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ReadyWatch {
    pid_file: PathBuf,
    changed: Arc<Notify>,
    /// `None`: file events are not available, so the file is polled.
    watcher: Option<RecommendedWatcher>,
}

impl ReadyWatch {
    /// Watches the existing directory `pgdata`. Call it before Postgres is spawned.
    pub(crate) fn new(pgdata: &Path) -> Self {
        let changed = Arc::new(Notify::new());
        let watcher = watch(pgdata, Arc::clone(&changed))
            .inspect_err(|e| tracing::warn!("no file events, polling postmaster.pid: {e}"))
            .ok();
        Self { pid_file: pgdata.join(PID_FILE), changed, watcher }
    }

    /// Waits until Postgres is ready. `exit` is the wait for the child, for instance
    /// `child.wait()`, which is dropped when Postgres is ready.
    ///
    /// # Errors
    /// See [`ReadyError`]. After `TimedOut` the child still runs; the caller ends it.
    pub(crate) async fn wait(
        self,
        exit: impl Future<Output = io::Result<ExitStatus>>,
        limit: Duration,
    ) -> Result<(), ReadyError> {
        let mut exit = pin!(exit);
        let mut deadline = pin!(sleep_until(Instant::now() + limit));
        let pause = if self.watcher.is_some() { SAFETY_LOOK } else { POLL };
        loop {
            let last = last_line(&self.pid_file);
            if last.as_deref() == Some("ready") {
                return Ok(());
            }
            tokio::select! {
                status = &mut exit => {
                    let status = status.map_err(ReadyError::Wait)?;
                    let code = status.code().unwrap_or(-1);
                    return Err(ReadyError::Exited { code, status, last_lines: Vec::new() });
                }
                () = &mut deadline => {
                    let said = last.map_or("does not exist".into(), |l| format!("says `{l}`"));
                    return Err(ReadyError::TimedOut { limit, said });
                }
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn watch(pgdata: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error (lost events) also requires a read.
        if event.as_ref().map_or(true, is_change) {
            changed.notify_one();
        }
    })?;
    watcher.watch(pgdata, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Reading the file causes events as well; those must not cause another read.
fn is_change(event: &Event) -> bool {
    let written = AccessKind::Close(AccessMode::Write);
    let access = matches!(event.kind, EventKind::Access(kind) if kind != written);
    !access && event.paths.iter().any(|p| p.ends_with(PID_FILE))
}

fn last_line(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).lines().last().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn write(dir: &Path, last: &str) {
        std::fs::write(dir.join(PID_FILE), format!("42\n/data\n1\n5432\n/tmp\n*\n1 2\n{last}\n"))
            .unwrap();
    }

    #[tokio::test]
    async fn sees_the_change_to_ready() {
        let dir = tempfile::tempdir().unwrap();
        let watch = ReadyWatch::new(dir.path());
        assert!(watch.watcher.is_some());
        write(dir.path(), "starting");
        let path = dir.path().to_owned();
        let wait = watch.wait(pending(), LONG);
        let (ready, ()) = tokio::join!(wait, async move {
            tokio::task::yield_now().await;
            write(&path, "ready   ");
        });
        ready.unwrap();
    }

    #[tokio::test]
    async fn the_exit_of_the_child_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "standby");
        for (raw, code) in [(1 << 8, 1), (9, -1)] {
            let exit = async move { Ok(ExitStatus::from_raw(raw)) };
            let error = ReadyWatch::new(dir.path()).wait(exit, LONG).await.unwrap_err();
            assert!(matches!(error, ReadyError::Exited { .. }));
            let text = error.to_string();
            assert_eq!(text, format!("Postgres exited unexpectedly with code {code}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let wait = ReadyWatch::new(dir.path()).wait(pending(), LONG);
        let text = wait.await.unwrap_err().to_string();
        assert!(text.contains("60s") && text.contains("does not exist"), "{text}");
        write(dir.path(), "starting");
        let text = ReadyWatch::new(dir.path()).wait(pending(), LONG).await.unwrap_err().to_string();
        assert!(text.contains("`starting`"), "{text}");
    }

    #[test]
    fn the_end_of_the_log_is_part_of_the_error() {
        let status = ExitStatus::from_raw(1 << 8);
        let last_lines = vec!["FATAL:  bad GUC".to_owned()];
        let error = ReadyError::Exited { code: 1, status, last_lines };
        assert!(error.to_string().ends_with("code 1; the end of its log:\nFATAL:  bad GUC"));
    }
}
