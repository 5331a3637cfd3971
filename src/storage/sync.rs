//! The full sync: `postgres --sync-safekeepers` (01 §9.2, 06 §7.3).
//!
//! The child elects itself with a new term, which evicts any other writer of the timeline. So it
//! runs only when the quick check gave no LSN, and once more after Postgres was reaped; never for a
//! compute that is not a primary, and never after a signal.
//!
//! Invariant: dropping the future sends SIGTERM to the child; the registry reaps it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::task::AbortOnDropHandle;

use crate::duration::varied;
use crate::os::children::{Children, RegisteredChild};
use crate::postgres::install::PgInstall;
use crate::postgres::log::LogCollector;
use crate::postgres::process::Server;
use crate::spec::Lsn;
use crate::telemetry::sink::LogSink;

/// Tries at start, and the factor of the pauses between them (01 §9.2).
const TRIES: u32 = 6;
const PAUSE_FACTOR: f64 = 1.1;
/// The answer is one LSN; a program that prints more is not `postgres`.
const MAX_STDOUT: u64 = 4096;

/// How long bringing the safekeepers to agreement may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncLimits {
    /// One safekeeper, connect and answer, in the quick check (01 §9.1): four round trips of
    /// 50 ms and a third of that in reserve, since a hiccup costs a run of the sync child (06 W11).
    pub answer: Duration,
    /// One run of `--sync-safekeepers` at start. The child waits for a quorum without a limit;
    /// after this long the start fails, so that the control plane learns of it.
    pub start: Duration,
    /// The sync after Postgres was reaped (01 §18.4).
    pub shutdown: Duration,
}

impl Default for SyncLimits {
    fn default() -> Self {
        Self {
            answer: Duration::from_millis(300),
            start: Duration::from_secs(300),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// The parameters of a run.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest<'a> {
    /// Installation that provides `postgres`.
    pub install: &'a PgInstall,
    /// Command and environment, with the token for the safekeepers.
    pub server: &'a Server,
    /// Data directory with the `postgresql.conf` that names the safekeepers.
    pub pgdata: &'a Path,
    /// Registry of child processes.
    pub children: &'a Children,
    /// Sink for the log of the child.
    pub log: &'a LogSink,
    /// Limit for reading the rest of the log after the child has ended.
    pub log_drain: Duration,
}

/// Why a sync gave no LSN.
#[derive(Debug, Error)]
pub(crate) enum SyncError {
    /// A vanilla server; detected from its bytes, not by running it.
    #[error(
        "{} does not know --sync-safekeepers: the safekeepers can only be brought to agreement by \
         Neon's build of PostgreSQL; give its path with --pgbin", .0.display()
    )]
    Unsupported(PathBuf),
    /// The program could not be started.
    #[error("could not run {} --sync-safekeepers: {error}", program.display())]
    Spawn {
        /// The server program.
        program: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// The child failed; its log says why.
    #[error(
        "postgres --sync-safekeepers ended with {status}, stdout: {stdout:?}, last log lines: {log:?}"
    )]
    Failed {
        /// Exit status.
        status: ExitStatus,
        /// Output of the child.
        stdout: String,
        /// Last lines of its log.
        log: Vec<String>,
    },
    /// The output is not an LSN.
    #[error("postgres --sync-safekeepers printed {stdout:?}, which is not an LSN")]
    NoLsn {
        /// Output of the child.
        stdout: String,
    },
    /// The child did not end in time and was killed.
    #[error(
        "postgres --sync-safekeepers did not end within {0:?}: no quorum of safekeepers answers"
    )]
    TimedOut(Duration),
}

/// Whether the server supports the sync, which is being found out on a separate thread. The program
/// file is read for it, so an end begins with this while Postgres is still stopping.
#[derive(Debug)]
pub(crate) struct Support {
    program: PathBuf,
    known: AbortOnDropHandle<std::io::Result<bool>>,
}

impl Support {
    /// Begins to read the program. Needs a runtime.
    pub(crate) fn of(install: &PgInstall) -> Self {
        let (install, program) = (install.clone(), install.postgres.clone());
        let look = move || install.knows_sync_safekeepers();
        let known = AbortOnDropHandle::new(tokio::task::spawn_blocking(look));
        Self { program, known }
    }

    async fn require(self) -> Result<(), SyncError> {
        let program = self.program;
        match self.known.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(SyncError::Unsupported(program)),
            Ok(Err(error)) => Err(SyncError::Spawn { program, error }),
            Err(error) => {
                Err(SyncError::Spawn { program, error: std::io::Error::other(error.to_string()) })
            }
        }
    }
}

/// Whether the server can sync at all. False for a vanilla server only: other obstacles are those of
/// the sync itself.
pub(crate) async fn is_supported(install: &PgInstall) -> bool {
    !matches!(Support::of(install).require().await, Err(SyncError::Unsupported(_)))
}

/// The sync of a start, with retries. One run waits for a quorum of safekeepers for at most
/// `limit`; a run that reaches this limit is not repeated.
pub(crate) async fn sync_with_retries(
    request: SyncRequest<'_>,
    limit: Duration,
) -> Result<Lsn, SyncError> {
    Support::of(request.install).require().await?;
    let mut failed = 0;
    loop {
        let error = match run_within(&request, limit).await {
            Ok(lsn) => return Ok(lsn),
            Err(error) => error,
        };
        failed += 1;
        if failed == TRIES || matches!(error, SyncError::TimedOut(_)) {
            return Err(error);
        }
        tracing::warn!("sync_safekeepers failed, will retry (attempt {failed}): {error}");
        tokio::time::sleep(varied(pause_before_retry(failed))).await;
    }
}

/// 0, 1.1, 1.21, 1.331, 1.4641 s.
fn pause_before_retry(retry: u32) -> Duration {
    match retry {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs_f64(
            PAUSE_FACTOR.powi(i32::try_from(n).unwrap_or(i32::MAX) - 1).min(3.0),
        ),
    }
}

/// The sync after Postgres was reaped: one try within `limit`.
pub(crate) async fn sync_once(
    request: SyncRequest<'_>,
    support: Support,
    limit: Duration,
) -> Result<Lsn, SyncError> {
    support.require().await?;
    run_within(&request, limit).await
}

/// At the limit the run is dropped, which ends the child.
async fn run_within(request: &SyncRequest<'_>, limit: Duration) -> Result<Lsn, SyncError> {
    tokio::time::timeout(limit, run(request)).await.unwrap_or(Err(SyncError::TimedOut(limit)))
}

/// Sends SIGTERM to the child when the caller stops waiting for it (06 §7.3, "termination").
struct TerminateOnDrop(RegisteredChild);

impl Drop for TerminateOnDrop {
    fn drop(&mut self) {
        if !self.0.is_reaped() {
            let _ = self.0.signal(Signal::SIGTERM);
        }
    }
}

async fn run(request: &SyncRequest<'_>) -> Result<Lsn, SyncError> {
    let program = &request.server.postgres;
    let spawn_error = |error| SyncError::Spawn { program: program.clone(), error };

    // `-D` is not supported in this mode.
    let mut command = request.server.command();
    command.arg("--sync-safekeepers").env("PGDATA", request.pgdata);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = TerminateOnDrop(request.children.spawn(command).map_err(spawn_error)?);
    tracing::info!("starting safekeepers syncing");

    let stdout = child.0.take_stdout();
    let mut log =
        child.0.take_stderr().map(|stderr| LogCollector::start(stderr, request.log.clone()));
    let (status, stdout) = tokio::join!(child.0.wait(), read_answer(stdout));
    let status = status.map_err(spawn_error)?;
    let mut last_lines = Vec::new();
    if let Some(log) = &mut log {
        log.drained(request.log_drain).await;
        last_lines = log.last_lines(5);
    }
    if !status.success() {
        return Err(SyncError::Failed { status, stdout, log: last_lines });
    }
    let lsn = stdout.trim().parse().map_err(|_| SyncError::NoLsn { stdout })?;
    tracing::info!("safekeepers synced at LSN {lsn}");
    Ok(lsn)
}

/// Reads to the end of file and keeps the beginning.
async fn read_answer(stdout: Option<impl AsyncRead + Unpin>) -> String {
    let mut answer = Vec::new();
    if let Some(mut stdout) = stdout {
        // An error here shows as an answer that is not an LSN.
        let _ = (&mut stdout).take(MAX_STDOUT).read_to_end(&mut answer).await;
        let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_pauses() {
        let pauses: Vec<_> = (1..TRIES).map(|n| pause_before_retry(n).as_micros()).collect();
        assert_eq!(pauses, [0, 1_100_000, 1_210_000, 1_331_000, 1_464_100]);
    }

    #[tokio::test]
    async fn an_endless_answer_is_bounded() {
        let endless = tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), 1 << 20);
        assert_eq!(read_answer(Some(endless)).await.len() as u64, MAX_STDOUT);
    }
}
