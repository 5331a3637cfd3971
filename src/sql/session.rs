//! A session with every deadline. A statement that waits for a lock and a slow one give different
//! errors, and the former names the holder ([`blocked`](super::blocked),
//! [`lock_watch`](super::lock_watch)).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::blocked::Wait;
use super::config::SessionConfig;
use super::error::{PgError, SessionError};
use super::lock_watch::LockWatch;
use super::raw::{Answers, BatchError, CANCEL_DEADLINE, RawSession, SessionDeadlines};
use super::row::Row;

/// An open connection. Dropping it closes it, and a statement in progress ends soon after.
#[derive(Debug)]
pub struct Session {
    raw: RawSession,
    config: SessionConfig,
    watch: Arc<LockWatch>,
}

impl Session {
    /// Connects within the deadline, with a lock watch of its own.
    pub async fn connect(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
    ) -> Result<Self, SessionError> {
        Self::connect_with(config, deadlines, Arc::default()).await
    }

    /// Like [`Self::connect`], with a lock watch that other sessions share.
    pub async fn connect_with(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
        watch: Arc<LockWatch>,
    ) -> Result<Self, SessionError> {
        let raw = RawSession::connect(config, deadlines).await?;
        Ok(Self { raw, config: config.clone(), watch })
    }

    /// Runs statements as one message, that is, in one round trip and (without transaction
    /// commands in it) one transaction. Returns the rows of all of them.
    ///
    /// A message that exceeds its deadline, or waits for one lock for too long, is cancelled; the
    /// session can be used afterwards, unless the server does not answer the request to cancel
    /// either.
    pub async fn batch(&self, sql: &str) -> Result<Vec<Row>, BatchError> {
        let mut answers = Answers::default();
        let outcome = self.watched(answers.collect(&self.raw.client, sql)).await;
        answers.end(outcome)
    }

    /// Like [`Session::batch`], for callers that do not need the number of completed statements.
    pub async fn query(&self, sql: &str) -> Result<Vec<Row>, SessionError> {
        self.batch(sql).await.map_err(|batch| batch.error)
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed()
    }

    /// Asks the server to cancel the statement in progress.
    pub async fn cancel(&self) {
        self.raw.cancel().await;
    }

    pub(super) const fn client(&self) -> &Client {
        &self.raw.client
    }

    /// Runs work on the client until it is done, exceeds its deadline, or has waited too long for
    /// a lock.
    async fn watched(
        &self,
        work: impl Future<Output = Result<(), tokio_postgres::Error>>,
    ) -> Result<(), SessionError> {
        let mut work = pin!(work);
        let began = Instant::now();
        let deadline = began + self.raw.deadlines.statement;
        let mut look = began + self.raw.deadlines.lock;
        let mut unknown = None;
        let given_up = loop {
            let turn = tokio::select! {
                biased;
                outcome = &mut work => Some(outcome),
                () = sleep_until(look.min(deadline)) => None,
            };
            if let Some(outcome) = turn {
                return outcome.map_err(|error| SessionError::Statement(error.into()));
            }
            if deadline <= Instant::now() {
                let limit = self.raw.deadlines.statement;
                break match unknown {
                    Some(why) => SessionError::Unexplained { limit, why: Box::new(why) },
                    None => SessionError::StatementDeadline(limit),
                };
            }
            let asked = Instant::now();
            let wait = tokio::select! {
                biased;
                outcome = &mut work => {
                    return outcome.map_err(|error| SessionError::Statement(error.into()));
                }
                wait = timeout_at(deadline, self.wait()) => wait.unwrap_or_else(|_| {
                    // The next iteration handles the deadline.
                    Err(SessionError::StatementDeadline(deadline.duration_since(asked)))
                }),
            };
            unknown = wait.as_ref().err().cloned();
            let waited = match wait {
                Ok(Some(Wait { waited, blockers })) if waited >= self.raw.deadlines.lock => {
                    break SessionError::Blocked { waited, blockers };
                }
                Ok(Some(wait)) => wait.waited,
                Ok(None) | Err(_) => Duration::ZERO,
            };
            // The time at which the current lock wait would exceed its limit.
            look = Instant::now() + self.raw.deadlines.lock.saturating_sub(waited);
        };
        self.cancel().await;
        match timeout(CANCEL_DEADLINE, work).await {
            // The lock became free at the last moment.
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let error = PgError::from(error);
                let cancelled = error.is(&SqlState::QUERY_CANCELED);
                Err(if cancelled { given_up } else { SessionError::Statement(error) })
            }
            Err(_) => Err(given_up),
        }
    }

    /// The lock that the statement in progress waits for, if it waits for one.
    async fn wait(&self) -> Result<Option<Wait>, SessionError> {
        let Some(pid) = self.raw.pid().await else { return Ok(None) };
        let wait = self.watch.wait_of(pid, &self.config, self.raw.deadlines).await;
        if let Err(error) = &wait {
            tracing::warn!("could not find out what a slow statement waits for: {error}");
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::postgres::install::PgVersion;
    use crate::sql::config::{APPLY_CONFIG, session_config};
    use crate::sql::maintenance::MaintenanceSession;
    use tokio_util::task::AbortOnDropHandle;

    fn config(url: &str) -> Result<SessionConfig, SessionError> {
        session_config(url, APPLY_CONFIG, PgVersion::V17)
    }

    const fn deadlines(each: Duration) -> SessionDeadlines {
        SessionDeadlines { connect: each, statement: each, lock: each }
    }

    #[tokio::test]
    async fn a_silent_server_meets_the_deadline() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let config = config(&format!("postgresql://u@{at}/d")).unwrap();
        let limit = Duration::from_millis(20);
        let error = MaintenanceSession::connect(&config, deadlines(limit)).await.unwrap_err();
        assert_eq!(error, SessionError::ConnectDeadline { at, limit });
    }

    /// A server that accepts the first session and does not answer the others. After the second
    /// one has connected, it may answer the statement of the first one.
    async fn server_without_a_watch(answers: bool) -> (SessionConfig, AbortOnDropHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u@{}/d", listener.local_addr().unwrap());
        let server = async move {
            let (mut first, _) = listener.accept().await.unwrap();
            first.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
            let mut silent = Vec::new();
            loop {
                silent.push(listener.accept().await.unwrap());
                if answers && silent.len() == 1 {
                    first.write_all(b"C\0\0\0\x09DONE\0Z\0\0\0\x05I").await.unwrap();
                }
            }
        };
        (config(&url).unwrap(), AbortOnDropHandle::new(tokio::spawn(server)))
    }

    /// The wait of the statement stays unknown, but the deadline still ends it.
    #[tokio::test]
    async fn the_deadline_holds_while_the_watch_is_asked() {
        let (config, _server) = server_without_a_watch(false).await;
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        let deadlines = SessionDeadlines { connect: long, statement: 4 * short, lock: short };
        let session = Session::connect(&config, deadlines).await.unwrap();
        let error = timeout(long / 10, session.query("SELECT 1")).await.unwrap().unwrap_err();
        assert!(matches!(error, SessionError::Unexplained { .. }), "{error}");
        assert!(error.is_time_limit());
    }

    #[tokio::test]
    async fn an_answer_is_taken_while_the_watch_is_asked() {
        let (config, _server) = server_without_a_watch(true).await;
        let long = Duration::from_secs(600);
        let deadlines = SessionDeadlines { lock: Duration::from_millis(20), ..deadlines(long) };
        let session = Session::connect(&config, deadlines).await.unwrap();
        timeout(long / 10, session.query("SELECT 1")).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_closed_port_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let url = format!("postgresql://u:planted@{at}/d");
        drop(listener);
        let config = config(&url).unwrap();
        let error =
            Session::connect(&config, deadlines(Duration::from_secs(60))).await.unwrap_err();
        assert!(matches!(error, SessionError::Connect(PgError { sqlstate: None, .. })));
        let text = format!("could not connect to Postgres at {at}: error connecting to server: ");
        assert!(error.to_string().starts_with(&text), "{error}");
        assert!(!error.to_string().contains("planted"));
    }
}
