//! The Postgres server as a child process: start, readiness, reload, end (01 §10, §18).
//!
//! The driver owns it. Invariant: after [`PostgresProcess::stop`] or [`PostgresProcess::finish`]
//! has returned `Ok`, the postmaster is reaped, none of its processes is left, and its log is
//! written (or the deadline for that has passed).

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;

use super::limits::PostgresLimits;
use super::log::LogCollector;
use super::programs::find_in_path;
use super::ready::{ReadyError, ReadyWatch};
use super::stop::{StopError, StopLadder, StopOutcome, Stoppable, finish_leftovers};
use crate::os::children::{Children, RegisteredChild};
use crate::secret::Secret;
use crate::telemetry::sink::LogSink;

const CGEXEC: &str = "cgexec";
/// The cgroup is fixed, whatever `--cgroup` says (01 §19.1).
const CGEXEC_ARGS: [&str; 2] = ["-g", "memory:neon-postgres"];
/// Number of log lines in an error.
const LAST_LINES: usize = 20;

/// How to run the server program, for the server itself and for `--sync-safekeepers`.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Path of the program.
    pub postgres: PathBuf,
    /// Run it through `cgexec` (from PATH), because `AUTOSCALING` is in the environment.
    pub cgexec: bool,
    /// Variables added to the environment, for example `NEON_AUTH_TOKEN`; no other child gets them
    /// (see [`crate::os::children`]).
    pub env: Vec<(String, Secret<String>)>,
}

impl Server {
    /// The command without arguments: the environment is set, stdin and stdout are inherited,
    /// stderr is piped.
    pub(crate) fn command(&self) -> Command {
        let mut command = if self.cgexec {
            let mut cgexec = Command::new(CGEXEC);
            cgexec.args(CGEXEC_ARGS).arg(&self.postgres);
            cgexec
        } else {
            Command::new(&self.postgres)
        };
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        command.stderr(Stdio::piped());
        command
    }
}

/// `cgexec` is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "AUTOSCALING is set, so Postgres runs through `{CGEXEC}`, and no folder of PATH has that program: \
     install cgroup-tools, correct PATH, or unset AUTOSCALING"
)]
pub(crate) struct NoCgexec;

/// Finds out before anything is touched whether Postgres can be run through `cgexec`. `path` is the
/// value of PATH.
///
/// # Errors
/// No folder of PATH has the program.
pub(crate) fn require_cgexec(path: Option<&OsStr>) -> Result<(), NoCgexec> {
    find_in_path(Path::new(CGEXEC), path).map(|_| ()).ok_or(NoCgexec)
}

/// Postgres could not be spawned.
#[derive(Debug, thiserror::Error)]
#[error("could not start Postgres, {program}: {error}")]
pub(crate) struct StartError {
    /// The program that could not be run.
    program: String,
    error: io::Error,
}

/// A running (or ended) Postgres. Dropping it before its end kills its process group.
#[derive(Debug)]
pub(crate) struct PostgresProcess {
    child: RegisteredChild,
    children: Children,
    log: Option<LogCollector>,
    pgdata: PathBuf,
}

impl PostgresProcess {
    /// Spawns `<postgres> -D <pgdata>` and collects its log into `sink`. Needs a runtime.
    ///
    /// # Errors
    /// The program (or `cgexec`) cannot be run.
    pub(crate) fn start(
        server: &Server,
        pgdata: &Path,
        children: &Children,
        sink: &LogSink,
    ) -> Result<Self, StartError> {
        let mut command = server.command();
        command.arg("-D").arg(pgdata);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = children.spawn(command).map_err(|error| StartError { program, error })?;
        child.kill_on_drop(true);
        let log = child.take_stderr().map(|stderr| LogCollector::start(stderr, sink.clone()));
        Ok(Self { child, children: children.clone(), log, pgdata: pgdata.to_owned() })
    }

    /// Waits until Postgres accepts connections. Create `watch` before the start.
    ///
    /// # Errors
    /// See [`ReadyError`]; an exit comes with the last lines of the log. After a time-out
    /// Postgres still runs: stop it with [`StopLadder::immediate`].
    pub(crate) async fn wait_ready(
        &mut self,
        watch: ReadyWatch,
        limits: &PostgresLimits,
    ) -> Result<(), ReadyError> {
        let mut result = watch.wait(self.child.wait(), limits.ready).await;
        if let Err(ReadyError::Exited { last_lines, .. }) = &mut result {
            *last_lines = self.last_words(limits.log_drain).await;
        }
        result
    }

    /// The end of the log after Postgres has ended; waits for at most `drain`.
    pub(crate) async fn last_words(&mut self, drain: Duration) -> Vec<String> {
        let Some(log) = &mut self.log else { return Vec::new() };
        log.drained(drain).await;
        log.last_lines(LAST_LINES)
    }

    /// Process id of the postmaster.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Waits for the end of the postmaster. Cancel-safe and repeatable. Call [`Self::finish`]
    /// afterwards.
    ///
    /// # Errors
    /// The status cannot be read.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends a signal to the postmaster; has no effect if it has been reaped.
    ///
    /// # Errors
    /// The signal is not allowed.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Makes Postgres reload its configuration files (SIGHUP).
    ///
    /// # Errors
    /// The signal is not allowed.
    pub(crate) fn reload(&self) -> io::Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Stops Postgres by `ladder` and cleans up, see [`Self::finish`]. When `cut_short` resolves,
    /// SIGKILL is sent at once.
    ///
    /// # Errors
    /// See [`StopError`].
    pub(crate) async fn stop(
        &mut self,
        ladder: &StopLadder,
        cut_short: impl Future<Output = ()>,
        limits: &PostgresLimits,
    ) -> Result<StopOutcome, StopError> {
        let outcome = ladder.run(&mut self.child, cut_short).await?;
        self.finish(limits).await;
        Ok(outcome)
    }

    /// After the end of the postmaster: ends backends that outlived it, and waits for the rest of
    /// the log. Returns quickly if neither is needed.
    pub(crate) async fn finish(&mut self, limits: &PostgresLimits) {
        finish_leftovers(&self.children, self.pid(), &self.pgdata, limits.kill).await;
        if let Some(log) = &mut self.log
            && !log.drained(limits.log_drain).await
        {
            tracing::warn!(
                "another process still holds the log of Postgres open; not waiting for it"
            );
        }
    }
}

impl Stoppable for PostgresProcess {
    fn pid(&self) -> i32 {
        self.pid()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.signal(signal)
    }

    fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send {
        self.wait()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::pending;

    use super::*;
    use crate::os::procs;

    fn server(postgres: &Path, cgexec: bool) -> Server {
        let env = vec![("NEON_AUTH_TOKEN".to_owned(), Secret::new("hunter2".to_owned()))];
        Server { postgres: postgres.to_owned(), cgexec, env }
    }

    #[test]
    fn the_command_line_and_environment() {
        let command = server(Path::new("/pg/postgres"), true).command();
        let command = command.as_std();
        assert_eq!(command.get_program(), "cgexec");
        assert!(command.get_args().eq(["-g", "memory:neon-postgres", "/pg/postgres"]));
        let env: HashMap<_, _> = command.get_envs().collect();
        assert_eq!(env["NEON_AUTH_TOKEN".as_ref() as &std::ffi::OsStr], Some("hunter2".as_ref()));
        assert!(!format!("{:?}", server(Path::new("x"), false)).contains("hunter2"));
    }

    async fn fake(script: &str) -> (tempfile::TempDir, PostgresProcess, ReadyWatch, LogSink) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("postgres");
        // A shell writes it: see the note in `startup::stale`.
        let mut write = Command::new("/bin/sh");
        write.args(["-c", "printf '%s\\n' '#!/bin/sh' \"$1\" > \"$0\" && chmod 755 \"$0\""]);
        write.arg(&program).arg(script);
        let children = Children::new();
        children.run(write, Duration::from_secs(60), 100).await.unwrap();
        let pgdata = dir.path().join("data");
        std::fs::create_dir(&pgdata).unwrap();
        let sink = LogSink::new(std::io::sink()).unwrap();
        let watch = ReadyWatch::new(&pgdata);
        let process =
            PostgresProcess::start(&server(&program, false), &pgdata, &children, &sink).unwrap();
        (dir, process, watch, sink)
    }

    #[tokio::test]
    async fn an_exit_before_ready_comes_with_the_log() {
        let (_dir, mut process, watch, _sink) = fake("echo FATAL: bad $2 >&2; exit 3").await;
        let error =
            process.wait_ready(watch, &PostgresLimits::default()).await.unwrap_err().to_string();
        assert!(error.contains("code 3") && error.contains("FATAL: bad /"), "{error}");
    }

    #[tokio::test]
    async fn stop_leaves_nothing_behind() {
        let script = "trap '' INT QUIT; sleep 1000 & \
                      echo ready > $2/tmp; mv $2/tmp $2/postmaster.pid; wait";
        let (_dir, mut process, watch, _sink) = fake(script).await;
        let limits = PostgresLimits::default();
        process.wait_ready(watch, &limits).await.unwrap();
        let ladder = StopLadder::within(Duration::from_millis(100));
        let ladder = StopLadder::new([(Signal::SIGINT, ladder.total())], Duration::from_secs(60));
        let outcome = process.stop(&ladder, pending(), &limits).await.unwrap();
        assert_eq!(outcome.rung, Some(Signal::SIGKILL));
        let group = process.pid();
        let left = procs::all().unwrap().into_iter().filter(|p| p.pgrp == group && !p.zombie);
        assert_eq!(left.count(), 0);
    }
}
