//! The only way out (01 §18): stop Postgres, reap it, sync the safekeepers if that is safe, answer
//! the waiting requests, linger, exit with the documented code.
//!
//! Invariants: safekeepers are synced only after Postgres was reaped, never if it never ran and
//! never after a signal (a successor may be running, and a sync would throw it out). Every step is
//! bounded, and a signal cuts it short.

use std::future::Future;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::reason::Ending;
use super::steps::EndingStep;
use super::task::{ConfigureReply, Driver, NO_LSN};
use crate::background;
use crate::errors::{as_io, one_line, report};
use crate::failpoints::edges::{self, Edge, Injected};
use crate::node::requests::{ConfigureError, Request, Terminated};
use crate::postgres::crash;
use crate::postgres::limits::PostgresLimits;
use crate::postgres::process::PostgresProcess;
use crate::postgres::stop::StopLadder;
use crate::sidecars::pid_files;
use crate::spec::Lsn;
use crate::startup;
use crate::state::{ComputeStatus, Event};
use crate::storage::sync::{self, Support, SyncError};
use crate::telemetry::traces::Parent;

/// How long the process stays after a failed start, so that the error can be read (01 §8.2).
const LINGER_FAILED: Duration = Duration::from_secs(30);
/// How long the process stays after a fast terminate (01 §18.1).
const LINGER_FAST: Duration = Duration::from_secs(30);
/// Enough to deliver an answer (01 §18.1).
const LINGER_IMMEDIATE: Duration = Duration::from_millis(300);

/// Exit codes of 01 §18.5.
const OK: u8 = 0;
const FAILURE: u8 = 1;

impl Driver {
    /// Brings the compute to its end. Returns the exit code of the process.
    pub(super) async fn end(&mut self, ending: Ending) -> u8 {
        let span = ending.span();
        let inside = span.inside();
        self.end_span = span;
        inside.scope(self.end_inside(ending)).await
    }

    async fn end_inside(&mut self, ending: Ending) -> u8 {
        let timeouts = self.node.params.timeouts.clone();
        self.node.readiness.ends(ending.unready());
        self.node.promotion.close();
        let limit = self.stop.limit(background::END_LIMIT, timeouts.stop_on_signal);
        self.reached(EndingStep::Background, Edge::Begin).await;
        self.node.background.end(limit).await;
        self.reached(EndingStep::Background, Edge::End).await;
        match ending {
            Ending::Signal { postgres } => self.end_by_signal(postgres).await,
            Ending::NeverStarted { reply, .. } => {
                self.answer(NO_LSN, None, Some(reply)).await;
                self.linger(LINGER_IMMEDIATE, OK, NO_LSN).await
            }
            Ending::StartFailed { error, postgres, reply, from } => {
                self.end_failed_start(error, postgres, reply, &from).await
            }
            Ending::PostgresExited { status, mut postgres } => {
                self.end_vm_monitor().await;
                let _ = self.node.apply(Event::PostgresExited);
                let code = exit_code(&status);
                match &status {
                    Ok(status) => tracing::warn!("Postgres ended by itself with {status}"),
                    Err(error) => tracing::error!("could not wait for Postgres: {error}"),
                }
                let support = self.sync_support();
                self.reached(EndingStep::Postgres, Edge::Begin).await;
                if self.or_signal(postgres.finish(&timeouts.postgres)).await.is_none() {
                    postgres.finish(&self.hurried().1).await;
                    return self.signalled();
                }
                self.reached(EndingStep::Postgres, Edge::End).await;
                match status {
                    Ok(_) => self.sync_and_leave(code, None, support).await,
                    Err(error) => {
                        let text = format!("could not wait for Postgres: {error}");
                        self.leave(NO_LSN, Some(text), code, None).await
                    }
                }
            }
            Ending::Terminate { mut postgres, reply, .. } => {
                // With `--dev`, too (01 §18.1).
                pid_files::terminate(false);
                let support = self.sync_support();
                match self.stop(&mut postgres, &StopLadder::graceful(&timeouts.postgres)).await {
                    Stopped::ByLadder(Ok(status)) => {
                        self.sync_and_leave(exit_code(&Ok(status)), Some(reply), support).await
                    }
                    // Already logged. A sync would not be safe now.
                    Stopped::ByLadder(Err(error)) => {
                        let text = format!("could not stop Postgres: {error}");
                        self.leave(NO_LSN, Some(text), FAILURE, Some(reply)).await
                    }
                    Stopped::BySignal => self.signalled(),
                }
            }
            Ending::Detached { mut postgres } => {
                tracing::error!("the configuration has no spec any more: this compute is detached");
                let _ = self.node.apply(Event::PostgresExited);
                // In Lakebase mode Postgres asks for a refresh because it does not reach storage,
                // and a shutdown checkpoint would wait for that (01 §13.3).
                let ladder = match self.node.params.lakebase {
                    Some(_) => StopLadder::immediate(&timeouts.postgres),
                    None => StopLadder::graceful(&timeouts.postgres),
                };
                match self.stop(&mut postgres, &ladder).await {
                    Stopped::ByLadder(_) => {
                        // A `/terminate` may have come at the same time.
                        let _ = self.node.end(NO_LSN, None);
                        self.drain_requests(NO_LSN);
                        FAILURE
                    }
                    Stopped::BySignal => self.signalled(),
                }
            }
        }
    }

    /// Ends after a signal: stops only Postgres and the children, since only a few seconds are left
    /// (01 §18.3).
    async fn end_by_signal(&mut self, postgres: Option<PostgresProcess>) -> u8 {
        let _ = self.node.apply(Event::Signal);
        pid_files::terminate(self.node.params.dev);
        if let Some(mut postgres) = postgres {
            self.stop_within_timeout(&mut postgres).await;
        }
        self.signalled()
    }

    fn signalled(&self) -> u8 {
        self.node.params.signal_exit_code
    }

    /// Stops Postgres by a ladder; a signal during the stop switches to a shorter one.
    async fn stop(&mut self, postgres: &mut PostgresProcess, ladder: &StopLadder) -> Stopped {
        let timeouts = &self.node.params.timeouts;
        self.reached(EndingStep::Postgres, Edge::Begin).await;
        let outcome = tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => None,
            outcome = postgres.stop(ladder, std::future::pending(), &timeouts.postgres) => Some(outcome),
        };
        if outcome.is_some() {
            self.reached(EndingStep::Postgres, Edge::End).await;
            self.end_vm_monitor().await;
        }
        match outcome {
            Some(Ok(outcome)) => Stopped::ByLadder(Ok(outcome.status)),
            Some(Err(error)) => {
                tracing::error!("could not stop Postgres: {error}");
                Stopped::ByLadder(Err(std::io::Error::other(error)))
            }
            None => {
                self.stop_within_timeout(postgres).await;
                Stopped::BySignal
            }
        }
    }

    /// How Postgres is stopped after a signal, see [`Stop::ladder`](super::shutdown::Stop::ladder).
    fn hurried(&self) -> (StopLadder, PostgresLimits) {
        let timeouts = &self.node.params.timeouts;
        self.stop.ladder(timeouts.stop_on_signal, &timeouts.postgres)
    }

    /// After a signal: stops Postgres within `--stop-timeout`, after a second signal at once.
    async fn stop_within_timeout(&mut self, postgres: &mut PostgresProcess) {
        let (ladder, limits) = self.hurried();
        if let Err(error) = postgres.stop(&ladder, self.stop.at_once.cancelled(), &limits).await {
            tracing::error!("could not stop Postgres: {error}");
        }
        self.end_vm_monitor().await;
    }

    /// Ends after a failed start: the status stays `failed`, and the process stays long enough for
    /// the error to be fetched, even if other steps fail (01 §24 no. 5).
    async fn end_failed_start(
        &mut self,
        error: anyhow::Error,
        postgres: Option<PostgresProcess>,
        reply: ConfigureReply,
        from: &Parent,
    ) -> u8 {
        let text = report(&error);
        let _ = from.within(|| self.node.fail(text.clone()));
        if let Some(reply) = reply {
            let _ = reply.send(Err(ConfigureError::Failed(text)));
        }
        // Before the cause of the failure: an obstacle that has nothing to do with it must not be
        // the last line.
        let sync_obstacle = match &postgres {
            Some(_) => self.or_signal(self.cannot_sync()).await.flatten(),
            None => None,
        };
        if let Some(why) = &sync_obstacle {
            tracing::info!("the safekeepers will not be synced at the end: {why}");
        }
        let short = one_line(error.as_ref());
        from.within(|| tracing::error!("could not start the compute node: {short}"));
        let timeouts = self.node.params.timeouts.clone();
        let mut linger_until = tokio::time::Instant::now() + LINGER_FAILED;
        // `--pg-init-timeout` still counts after a failure.
        if let Some(deadline) = self.init_deadline.filter(|deadline| deadline.at < linger_until) {
            tracing::warn!("not staying longer than --pg-init-timeout, {:?}", deadline.limit);
            linger_until = deadline.at;
        }
        let mut terminated = NO_LSN;
        if let Some(mut postgres) = postgres {
            match self.stop(&mut postgres, &StopLadder::immediate(&timeouts.postgres)).await {
                Stopped::BySignal => return self.signalled(),
                Stopped::ByLadder(Err(_)) => {}
                Stopped::ByLadder(Ok(_)) if sync_obstacle.is_some() => {}
                Stopped::ByLadder(Ok(_)) => match self.or_signal(self.sync(None)).await {
                    None => return self.signalled(),
                    Some(Some(Err(error))) => tracing::error!("{error}"),
                    Some(Some(Ok(lsn))) => terminated = Terminated { lsn: Some(lsn) },
                    Some(None) => {}
                },
            }
        }
        // Not only Postgres may have left a core dump: the sync before it also runs in PGDATA.
        if self.or_signal(self.crash_evidence()).await.is_none() {
            return self.signalled();
        }
        self.leftovers.delete_in_background();
        let rest = linger_until.saturating_duration_since(tokio::time::Instant::now());
        self.linger(rest, FAILURE, terminated).await
    }

    /// After Postgres is reaped: sync, answer, linger, exit (01 §18.4).
    async fn sync_and_leave(
        &mut self,
        code: u8,
        reply: Option<oneshot::Sender<Terminated>>,
        support: Option<Support>,
    ) -> u8 {
        let synced = self.or_signal(self.sync(support)).await;
        let Some(synced) = synced else { return self.signalled() };
        let (terminated, error, code) = match synced {
            None => (NO_LSN, None, code),
            Some(Ok(lsn)) => (Terminated { lsn: Some(lsn) }, None, code),
            // Not a failure of this compute: the next start syncs the safekeepers.
            Some(Err(error @ SyncError::Unsupported(_))) => {
                tracing::info!("the safekeepers were not synced: {error}");
                (NO_LSN, None, code)
            }
            Some(Err(error)) => {
                let text = format!("failed to sync safekeepers at the end: {error}");
                tracing::error!("{text}");
                self.end_span.fail(&text);
                (NO_LSN, Some(text), FAILURE)
            }
        };
        self.leave(terminated, error, code, reply).await
    }

    /// Answers the waiting requests, lingers, returns the exit code.
    async fn leave(
        &mut self,
        terminated: Terminated,
        error: Option<String>,
        code: u8,
        reply: Option<oneshot::Sender<Terminated>>,
    ) -> u8 {
        let fast = self.node.status() == ComputeStatus::TerminationPendingFast;
        self.answer(terminated, error, reply).await;
        let linger = if fast { LINGER_FAST } else { LINGER_IMMEDIATE };
        let until = tokio::time::Instant::now() + linger;
        if self.or_signal(self.crash_evidence()).await.is_none() {
            return self.signalled();
        }
        let rest = until.saturating_duration_since(tokio::time::Instant::now());
        self.linger(rest, code, terminated).await
    }

    /// Publishes the end, and answers the waiting requests.
    async fn answer(
        &mut self,
        terminated: Terminated,
        error: Option<String>,
        reply: Option<oneshot::Sender<Terminated>>,
    ) {
        self.reached(EndingStep::Answer, Edge::Begin).await;
        let _ = self.node.end(terminated, error);
        if let Some(reply) = reply {
            let _ = reply.send(terminated);
        }
        self.drain_requests(terminated);
        self.reached(EndingStep::Answer, Edge::End).await;
    }

    /// A place where tests hold the end. Nothing here can fail, and a signal goes on at once.
    async fn reached(&self, step: EndingStep, edge: Edge) {
        let _ = self.or_signal(edges::reached(step.point(), edge)).await;
    }

    /// Reports core dumps now, because the next start deletes PGDATA. In Lakebase mode they are in a
    /// folder that outlives it (01 §18.6).
    fn crash_evidence(&self) -> impl Future<Output = ()> + use<> {
        let node = Arc::clone(&self.node);
        async move {
            let params = &node.params;
            let folder = params.lakebase.as_ref().map_or(&params.pgdata, |it| &it.core_dumps);
            let (postgres, limit) = (&params.install.postgres, params.timeouts.postgres.debugger);
            let look = async {
                crash::log_core_dumps(folder, postgres, &node.children, limit).await;
                Ok::<(), Injected>(())
            };
            let _ = edges::around(EndingStep::CoreDumps.point(), look).await;
        }
    }

    /// Begins to find out whether the server can sync, if this compute will have to.
    fn sync_support(&self) -> Option<Support> {
        let is_primary = self.node.spec().is_some_and(|spec| spec.is_primary());
        is_primary.then(|| Support::of(&self.node.params.install))
    }

    /// The final sync; `None` for a compute that is not a primary. `support` may have begun before.
    fn sync(
        &self,
        support: Option<Support>,
    ) -> impl Future<Output = Option<Result<Lsn, SyncError>>> + use<> {
        let node = Arc::clone(&self.node);
        async move {
            let spec = node.spec().filter(|spec| spec.is_primary())?;
            let server = startup::server(&node, &spec);
            let request = startup::sync_request(&node, &server);
            let support = support.unwrap_or_else(|| Support::of(&node.params.install));
            let failed = |injected: Injected| {
                let program = node.params.install.postgres.clone();
                SyncError::Spawn { program, error: as_io(injected) }
            };
            let synced = async {
                let point = EndingStep::Sync.point();
                edges::reached(point, Edge::Begin).await.map_err(failed)?;
                let limit = node.params.timeouts.sync.shutdown;
                let lsn = sync::sync_once(request, support, limit).await?;
                edges::reached(point, Edge::End).await.map_err(failed)?;
                Ok(lsn)
            };
            Some(synced.await)
        }
    }

    /// Why a primary cannot sync at its end whatever happens: a vanilla server.
    fn cannot_sync(&self) -> impl Future<Output = Option<String>> + use<> {
        let node = Arc::clone(&self.node);
        async move {
            let install = &node.params.install;
            let tries = node.spec().is_some_and(|spec| spec.is_primary());
            (tries && !sync::is_supported(install).await).then(|| {
                format!("{} is not Neon's build of PostgreSQL", install.postgres.display())
            })
        }
    }

    /// Runs `work`, unless a signal comes first: then returns `None` and drops the work.
    async fn or_signal<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Answers requests that arrived while the compute was ending.
    fn drain_requests(&mut self, terminated: Terminated) {
        while let Ok(request) = self.requests.try_recv() {
            if let Request::Terminate { reply, .. } = request {
                let _ = reply.send(terminated);
            }
        }
    }

    /// Stays, so that status and error can be fetched. A signal ends it at once; a `/terminate` of
    /// a compute whose start failed ends it soon.
    async fn linger(&mut self, how_long: Duration, code: u8, terminated: Terminated) -> u8 {
        // The stay is not a part of the work.
        drop(std::mem::take(&mut self.end_span));
        let mut until = tokio::time::Instant::now() + how_long;
        self.reached(EndingStep::Linger, Edge::Begin).await;
        loop {
            let request = tokio::select! {
                biased;
                () = self.stop.requested.cancelled() => return self.signalled(),
                () = tokio::time::sleep_until(until) => break,
                Some(request) = self.requests.recv() => request,
            };
            if let Request::Terminate { reply, .. } = request {
                let _ = self.node.end(terminated, None);
                let _ = reply.send(terminated);
                until = tokio::time::Instant::now() + LINGER_IMMEDIATE;
            }
        }
        self.reached(EndingStep::Linger, Edge::End).await;
        if self.stop.requested.is_cancelled() { self.signalled() } else { code }
    }
}

enum Stopped {
    ByLadder(std::io::Result<ExitStatus>),
    BySignal,
}

/// Postgres' own code; 1 if a signal killed it, which leaves no code (01 §18.5).
fn exit_code(status: &std::io::Result<ExitStatus>) -> u8 {
    let code = status.as_ref().ok().and_then(ExitStatus::code);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn the_exit_code_is_that_of_postgres() {
        let waited = |status| exit_code(&Ok(ExitStatus::from_raw(status)));
        assert_eq!([waited(0), waited(3 << 8), waited(255 << 8)], [0, 3, 255]);
        assert_eq!([waited(9), waited(6 | 0x80)], [FAILURE; 2], "SIGKILL, SIGABRT with a core");
        assert_eq!(exit_code(&Err(std::io::ErrorKind::Other.into())), FAILURE);
    }
}
