//! Stopping a child: a ladder of signals, each rung with a deadline.
//!
//! For Postgres SIGINT is the fast shutdown (checkpoint, then exit 0), SIGQUIT the immediate one,
//! and SIGKILL the last resort. The ladder is a value that depends on the reason for the stop; one
//! function runs all ladders. After a postmaster was killed its backends can live on: they become
//! children of this process, and [`finish_leftovers`] ends them.
//!
//! Invariant: [`StopLadder::run`] ends within the sum of its rungs, and returns `Ok` only when
//! the child is reaped.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, timeout_at};

use super::limits::PostgresLimits;
use crate::os::children::{Children, RegisteredChild};
use crate::os::pidfd::ProcessHandle;
use crate::os::procs::{self, Process};

/// A process that a ladder can stop: a child, or a fake in tests.
pub trait Stoppable {
    /// Process id, for the log.
    fn pid(&self) -> i32;
    /// Sends a signal; has no effect if the child has ended.
    ///
    /// # Errors
    /// The signal is not allowed.
    fn signal(&self, signal: Signal) -> io::Result<()>;
    /// Waits for the end and reaps. Must be cancel-safe and remember the status.
    ///
    /// # Errors
    /// The child cannot be waited for.
    fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send;
}

impl Stoppable for RegisteredChild {
    fn pid(&self) -> i32 {
        RegisteredChild::pid(self)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        RegisteredChild::signal(self, signal)
    }

    fn wait(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send {
        RegisteredChild::wait(self)
    }
}

/// Signals, and how long each may take to have an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopLadder {
    rungs: Vec<(Signal, Duration)>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOutcome {
    /// The last signal sent; `None` if the child had already ended.
    pub rung: Option<Signal>,
    /// Exit status.
    pub status: ExitStatus,
}

/// The child could not be reaped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Even SIGKILL did not end the child in time (it hangs in the kernel).
    #[error("process {0} did not end, not even by SIGKILL")]
    Survived(i32),
    /// The status cannot be read.
    #[error("could not wait for process {pid}: {error}")]
    Wait {
        /// Process id.
        pid: i32,
        /// Error of the system.
        error: io::Error,
    },
}

impl StopLadder {
    /// The given rungs; SIGKILL is appended if it is not the last one.
    pub fn new(rungs: impl IntoIterator<Item = (Signal, Duration)>, kill: Duration) -> Self {
        let mut rungs: Vec<_> =
            rungs.into_iter().filter(|(signal, _)| *signal != Signal::SIGKILL).collect();
        rungs.push((Signal::SIGKILL, kill));
        Self { rungs }
    }

    /// After a signal to the daemon: SIGINT, SIGQUIT, SIGKILL, all within `total`. The shutdown
    /// checkpoint gets most of the time.
    pub fn within(total: Duration) -> Self {
        let (fast, quit) = (total * 13 / 20, total / 5);
        let kill = total.saturating_sub(fast + quit);
        Self::new([(Signal::SIGINT, fast), (Signal::SIGQUIT, quit)], kill)
    }

    /// For `/terminate`: the shutdown checkpoint may take its time (01 §18.1).
    pub fn graceful(limits: &PostgresLimits) -> Self {
        let rungs = [(Signal::SIGINT, limits.fast), (Signal::SIGQUIT, limits.quit)];
        Self::new(rungs, limits.kill)
    }

    /// After a failed start, and when storage is gone: SIGQUIT, because no data needs a checkpoint
    /// (01 §8.2).
    pub fn immediate(limits: &PostgresLimits) -> Self {
        Self::new([(Signal::SIGQUIT, limits.quit)], limits.kill)
    }

    /// The longest time that [`Self::run`] takes.
    pub fn total(&self) -> Duration {
        self.rungs.iter().map(|(_, patience)| *patience).sum()
    }

    /// Sends the signals until the child is reaped. When `cut_short` resolves (a second termination
    /// signal), SIGKILL is sent at once; pass `std::future::pending()` if there is no such event.
    ///
    /// # Errors
    /// See [`StopError`].
    pub async fn run(
        &self,
        child: &mut impl Stoppable,
        cut_short: impl Future<Output = ()>,
    ) -> Result<StopOutcome, StopError> {
        let pid = child.pid();
        let failed = |error| StopError::Wait { pid, error };
        // A child that has already ended gets no signal.
        if let Ok(status) = timeout_at(Instant::now(), child.wait()).await {
            return Ok(StopOutcome { rung: None, status: status.map_err(failed)? });
        }
        let mut cut_short = pin!(cut_short);
        let mut hurry = false;
        for (signal, patience) in &self.rungs {
            if hurry && *signal != Signal::SIGKILL {
                continue;
            }
            tracing::info!(pid, "stopping: sending {signal}, waiting at most {patience:?}");
            if let Err(error) = child.signal(*signal) {
                tracing::warn!(pid, "could not send {signal}: {error}");
            }
            tokio::select! {
                biased;
                ended = timeout_at(Instant::now() + *patience, child.wait()) => {
                    if let Ok(status) = ended {
                        let status = status.map_err(failed)?;
                        tracing::info!(pid, "ended after {signal}: {status}");
                        return Ok(StopOutcome { rung: Some(*signal), status });
                    }
                }
                // A completed future must not be polled again.
                () = &mut cut_short, if !hurry && *signal != Signal::SIGKILL => hurry = true,
            }
        }
        Err(StopError::Survived(pid))
    }
}

/// Ends the leftovers of a dead postmaster: processes of its group, and Postgres processes that
/// work in PGDATA (backends have their own session and group). Sends SIGKILL, waits for at most
/// `limit`, and reaps them. Returns their number.
pub(crate) async fn finish_leftovers(
    children: &Children,
    group: i32,
    pgdata: &Path,
    limit: Duration,
) -> usize {
    let until = Instant::now() + limit;
    let pgdata = pgdata.canonicalize().unwrap_or_else(|_| pgdata.to_owned());
    let mut killed = 0;
    // A backend can fork, and a killed one can leave children to us: repeat until none is found.
    loop {
        let left = leftovers(children, group, &pgdata);
        if left.is_empty() {
            break;
        }
        killed += left.len();
        for process in &left {
            if let Err(error) = process.signal(Signal::SIGKILL) {
                tracing::warn!(pid = process.pid(), "could not end a leftover: {error}");
            }
        }
        for process in &left {
            if timeout_at(until, process.ended()).await.is_err() {
                tracing::warn!(pid = process.pid(), "a leftover of Postgres does not end");
                children.reap_orphans();
                return killed;
            }
        }
    }
    if killed > 0 {
        tracing::warn!(killed, "ended processes that Postgres left behind");
        children.reap_orphans();
    }
    killed
}

fn leftovers(children: &Children, group: i32, pgdata: &Path) -> Vec<ProcessHandle> {
    let (this, user) = (nix::unistd::getpid().as_raw(), nix::unistd::geteuid().as_raw());
    let is_one = |p: &Process| {
        let in_place = || match procs::cwd(p.pid) {
            Some(cwd) => cwd == pgdata && procs::runs_program(p.pid, "postgres"),
            // A child of ours in the middle of its exit no longer has a directory.
            None => p.ppid == this && procs::name(p.pid).is_some_and(|name| name == "postgres"),
        };
        !p.zombie
            && p.pid != this
            && (p.pgrp == group || in_place())
            && !children.is_registered(p.pid)
    };
    procs::of_user(user)
        .unwrap_or_default()
        .iter()
        .filter(|p| is_one(p))
        .filter_map(|p| ProcessHandle::open(p.pid))
        // The pid is held now; check that it still belongs to the same process.
        .filter(|handle| procs::owner(handle.pid()) == Some(user))
        .filter(|handle| procs::get(handle.pid()).is_some_and(|p| is_one(&p)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::os::unix::process::ExitStatusExt;

    use parking_lot::Mutex;
    use tokio::sync::Notify;

    use super::*;

    /// Ends only after `fatal`, and records when each signal arrived.
    struct Fake {
        fatal: Option<Signal>,
        start: Instant,
        got: Mutex<Vec<(Signal, Duration)>>,
        over: Notify,
    }

    impl Fake {
        fn new(fatal: Option<Signal>) -> Self {
            Self { fatal, start: Instant::now(), got: Mutex::default(), over: Notify::new() }
        }

        fn got(&self) -> Vec<(Signal, Duration)> {
            self.got.lock().clone()
        }
    }

    impl Stoppable for Fake {
        fn pid(&self) -> i32 {
            1
        }

        fn signal(&self, signal: Signal) -> io::Result<()> {
            self.got.lock().push((signal, self.start.elapsed()));
            if self.fatal == Some(signal) {
                self.over.notify_one();
            }
            Ok(())
        }

        async fn wait(&mut self) -> io::Result<ExitStatus> {
            self.over.notified().await;
            Ok(ExitStatus::from_raw(0))
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn ladder() -> StopLadder {
        StopLadder::new([(Signal::SIGINT, SECOND * 5), (Signal::SIGQUIT, SECOND * 2)], SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn each_rung_has_its_time() {
        for (fatal, sent) in [(Signal::SIGINT, 1), (Signal::SIGQUIT, 2), (Signal::SIGKILL, 3)] {
            let mut child = Fake::new(Some(fatal));
            let outcome = ladder().run(&mut child, pending()).await.unwrap();
            assert_eq!(outcome.rung, Some(fatal));
            let all = [
                (Signal::SIGINT, Duration::ZERO),
                (Signal::SIGQUIT, SECOND * 5),
                (Signal::SIGKILL, SECOND * 7),
            ];
            assert_eq!(child.got(), all[..sent]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_survives_is_an_error_after_the_total() {
        let mut child = Fake::new(None);
        let error = ladder().run(&mut child, pending()).await.unwrap_err();
        assert!(matches!(error, StopError::Survived(1)));
        assert_eq!(child.start.elapsed(), ladder().total());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_ended_gets_no_signal() {
        let mut child = Fake::new(None);
        child.over.notify_one();
        let outcome = ladder().run(&mut child, pending()).await.unwrap();
        assert_eq!((outcome.rung, child.got().len()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn cut_short_means_sigkill_at_once() {
        let mut child = Fake::new(Some(Signal::SIGKILL));
        let second_signal = tokio::time::sleep(SECOND * 3);
        let outcome = ladder().run(&mut child, second_signal).await.unwrap();
        assert_eq!(outcome.rung, Some(Signal::SIGKILL));
        assert_eq!(child.got(), [(Signal::SIGINT, Duration::ZERO), (Signal::SIGKILL, SECOND * 3)]);
    }

    #[test]
    fn ladders_fit_and_end_with_sigkill() {
        let limits = PostgresLimits::default();
        for millis in [1, 10, 7000] {
            let total = Duration::from_millis(millis);
            assert_eq!(StopLadder::within(total).total(), total);
        }
        for ladder in [
            StopLadder::within(SECOND * 7),
            StopLadder::graceful(&limits),
            StopLadder::immediate(&limits),
        ] {
            assert_eq!(ladder.rungs.last().unwrap().0, Signal::SIGKILL);
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_group_is_ended() {
        let children = Children::new();
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & sleep 1000 & exit 0"]);
        let mut child = children.spawn(command).unwrap();
        child.wait().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let killed = finish_leftovers(&children, child.pid(), dir.path(), SECOND * 60).await;
        assert_eq!(killed, 2);
        assert_eq!(leftovers(&children, child.pid(), dir.path()).len(), 0);
    }
}
