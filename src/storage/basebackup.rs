//! Fetches the base backup and unpacks it into the data directory, with retries (01 §9.3, 06 §3,
//! §5).
//!
//! Runs after the safekeepers have named the LSN. [`EarlyConnection`] may connect before that,
//! while the safekeepers are still being asked.
//!
//! Invariants: a try counts as successful only when the server has said that it is complete
//! (CommandComplete, or status OK) and every file is written; no try sees files of an earlier one.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::connection::PageserverConnection;
use super::errors::{BasebackupError, ErrorClass, FetchError, UnpackError};
use super::progress::Progress;
pub(crate) use super::request::BasebackupRequest;
use super::rotation::{Failure, Rotation};
use super::target::{Endpoint, PageserverTarget};
use super::unpack::Unpacker;
use crate::telemetry::storage_metrics::{Peer, StorageTries, TryOutcome};
use crate::telemetry::traces;

/// How long the pageserver may be silent before the log mentions it.
const SLOW_NOTICE: Duration = Duration::from_secs(10);

/// How long to wait and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasebackupLimits {
    /// Limit for connecting and authenticating, per address.
    pub connect: Duration,
    /// Limit from the command to the first byte. The server may wait 300 s for the LSN (06 §3.7).
    pub first_byte: Duration,
    /// A try that fails after this long without a single byte counts as slow; at most two slow
    /// tries are made for each pageserver. Equals the time that a server itself waits: one that
    /// hangs up earlier is most likely being moved.
    pub slow: Duration,
    /// Limit between two chunks.
    pub stall: Duration,
    /// Number of retries after the first try.
    pub retries: u32,
    /// Pause before the first retry; each further one is 1.5 times as long.
    pub first_pause: Duration,
    /// Interval between log lines about a try in progress.
    pub progress: Duration,
}

impl Default for BasebackupLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(330),
            slow: Duration::from_secs(290),
            stall: Duration::from_secs(60),
            retries: 10,
            first_pause: Duration::from_millis(500),
            progress: Duration::from_secs(5),
        }
    }
}

/// Figures of the successful try (06 §3.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BasebackupStats {
    /// `pageserver_connect_micros`: connecting and authenticating.
    pub connect_micros: u64,
    /// `basebackup_bytes`: compressed.
    pub bytes: u64,
    /// `basebackup_ms`: connecting, also when that was done early, to the last file written.
    pub millis: u64,
}

/// A connection that is opened before it is needed. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct EarlyConnection {
    task: AbortOnDropHandle<(Result<PageserverConnection, FetchError>, Instant)>,
}

impl EarlyConnection {
    /// Begins to connect to the first pageserver. `limit` as in [`BasebackupLimits::connect`].
    pub(crate) fn start(target: &PageserverTarget, limit: Duration) -> Self {
        let target = target.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            (PageserverConnection::open(&target, limit).await, Instant::now())
        }));
        Self { task }
    }

    /// The connection, or the error and the time of the failure.
    async fn ready(self) -> Option<(Result<PageserverConnection, FetchError>, Instant)> {
        self.task.await.ok()
    }
}

/// Fetches and unpacks the base backup. Every failed try is logged as a warning, and the data
/// directory is cleaned before the next one. Dropping the future stops everything at once.
///
/// If the early connection failed to open, that counts as the first failed try. If it opened and
/// was lost later, it is replaced at once.
pub(crate) async fn get_basebackup(
    request: BasebackupRequest<'_>,
    early: Option<EarlyConnection>,
    limits: BasebackupLimits,
    progress: &Progress,
    peers: &StorageTries,
) -> Result<BasebackupStats, BasebackupError> {
    let mut early = match early {
        Some(early) => early.ready().await,
        None => None,
    };
    let mut rotation =
        Rotation::new(request.target.pageservers(), limits.retries, limits.first_pause);
    let most = limits.retries.saturating_add(1);
    let peer = |turn| request.target.endpoint(turn).peer();
    let asking = progress.tries.begin("pageserver", peer(rotation.turn()), Some(most));
    let first = Instant::now();
    loop {
        let (attempt, began) = (rotation.attempt(), Instant::now());
        let endpoint = request.target.endpoint(rotation.turn());
        progress.reset();
        asking.attempt(attempt.saturating_add(1), endpoint.peer());
        let span = traces::client_span("pageserver basebackup");
        span.set("server.address", endpoint.peer());
        span.set("neon.lsn", request.lsn);
        let (outcome, ended) = match early.take() {
            Some((Err(error), when)) => (Err(error), when),
            opened => {
                let opened = opened.and_then(|(connection, _)| connection.ok());
                let one = Try { request, endpoint, limits, progress, clean: attempt > 0 };
                (span.scope(one.run(opened)).await, Instant::now())
            }
        };
        peers.count(
            Peer::Pageserver,
            match outcome.as_ref().map_err(FetchError::class) {
                Ok(_) => TryOutcome::Succeeded,
                Err(ErrorClass::Refused) => TryOutcome::Refused,
                Err(ErrorClass::Local | ErrorClass::Transient) => TryOutcome::Failed,
            },
        );
        let error = match outcome {
            Ok(stats) => {
                span.number("bytes", stats.bytes);
                return Ok(stats);
            }
            Err(error) => error,
        };
        span.fail(&error);
        drop(span);
        let slow = progress.bytes() == 0 && ended.duration_since(began) >= limits.slow;
        let tries = attempt.saturating_add(1);
        let peer = endpoint.peer();
        let said = error.said_by(&peer);
        tracing::warn!("Failed to get basebackup: {said} (attempt {tries}/{most})");
        let Some(pause) = rotation.next(Failure { class: error.class(), slow }) else {
            let took = first.elapsed();
            return Err(BasebackupError { lsn: request.lsn, peer, tries, took, error });
        };
        // The pause is counted from the failure, which may be in the past: an early connection may
        // have been refused while the safekeepers were still being asked.
        let pause = pause.saturating_sub(ended.elapsed());
        asking.failed(error.to_string(), pause);
        sleep(pause).await;
    }
}

/// One try.
struct Try<'a> {
    request: BasebackupRequest<'a>,
    endpoint: &'a Endpoint,
    limits: BasebackupLimits,
    progress: &'a Progress,
    clean: bool,
}

impl Try<'_> {
    async fn run(
        &self,
        opened: Option<PageserverConnection>,
    ) -> Result<BasebackupStats, FetchError> {
        let started = Instant::now();
        let mut unpacker = Unpacker::start(self.request.pgdata, self.clean)?;
        let early = opened.as_ref().map(PageserverConnection::connect_time);
        let (mut connection, mut next, reopened) = self.ask(opened).await?;

        let mut bytes: u64 = 0;
        while let Some(chunk) = next {
            self.progress.received(chunk.len());
            bytes = bytes.saturating_add(chunk.len() as u64);
            if !unpacker.push(chunk).await {
                unpacker.finish().await?;
                return Err(UnpackError::NoResult.into());
            }
            next = connection.next_chunk(self.limits.stall).await?;
        }
        unpacker.finish().await?;
        tracing::info!("got the basebackup of {bytes} bytes from pageserver {connection}");

        // Connecting before this try began is part of its figures.
        let before = if reopened { Duration::ZERO } else { early.unwrap_or_default() };
        Ok(BasebackupStats {
            connect_micros: number(connection.connect_time().as_micros()),
            bytes,
            millis: number((started.elapsed() + before).as_millis()),
        })
    }

    /// Sends the command, over the early connection if that still works, and waits for the first
    /// bytes. Also returns whether the early connection was replaced.
    async fn ask(
        &self,
        opened: Option<PageserverConnection>,
    ) -> Result<(PageserverConnection, Option<Bytes>, bool), FetchError> {
        let reopened = opened.is_some();
        if let Some(mut connection) = opened
            && !connection.is_stale()
        {
            match self.first_chunk(&mut connection).await {
                Ok(first) => return Ok((connection, first, false)),
                // The server closes an idle connection after 10 minutes.
                Err(FetchError::Lost(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if reopened {
            tracing::info!("the early connection to the pageserver was lost, opening another one");
        }
        let mut connection =
            PageserverConnection::open_endpoint(self.endpoint, self.limits.connect).await?;
        let first = self.first_chunk(&mut connection).await?;
        Ok((connection, first, reopened))
    }

    /// A single limit from the command to the first bytes, whichever stage takes the time.
    async fn first_chunk(
        &self,
        connection: &mut PageserverConnection,
    ) -> Result<Option<Bytes>, FetchError> {
        let limit = self.limits.first_byte;
        let first = async {
            connection.start_archive(&self.request).await?;
            connection.next_chunk(Duration::MAX).await
        };
        let first = timeout(limit, noting_silence(first)).await;
        first.unwrap_or(Err(FetchError::FirstByteTimeout(limit)))
    }
}

/// Waits for something that may legitimately take minutes, and logs a notice if it is slow.
async fn noting_silence<T>(wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    if let Ok(done) = timeout(SLOW_NOTICE, &mut wait).await {
        return done;
    }
    tracing::info!(
        "the pageserver has sent nothing for {SLOW_NOTICE:?}; it may be waiting for the WAL up to \
         the LSN, for 5 minutes at most"
    );
    wait.await
}

fn number(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
