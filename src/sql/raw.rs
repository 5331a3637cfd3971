//! One hardened connection: open it, send statements, cancel.
//!
//! Not for use outside of this room: a statement that waits for a lock meets the deadline of the
//! whole statement here, and the error cannot name the holder of the lock.
//! [`Session`](super::Session) adds that.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use super::cancel;
use super::config::SessionConfig;
use super::error::SessionError;
use super::footprint::Footprint;
use super::reach;
use super::row::Row;

/// Limit for a request to cancel, and for the final answer of the server after it.
pub(super) const CANCEL_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes of a request to cancel a statement.
const CANCEL_REQUEST: usize = 16;

/// Limits of our side; the server's own timeouts are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionDeadlines {
    /// From the first address tried to a session that can be used.
    pub connect: Duration,
    /// For one message with all its statements.
    pub statement: Duration,
    /// For one lock of another session. Users' transactions are usually short; where they are not,
    /// a longer wait also delays the users behind us in the queue.
    pub lock: Duration,
}

impl Default for SessionDeadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // Creating a database copies its template.
            statement: Duration::from_secs(120),
            lock: Duration::from_secs(30),
        }
    }
}

/// The progress of a message with several statements that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchError {
    /// Statements that were done; the next one failed. All statements of a message are one
    /// transaction, so these were rolled back.
    pub completed: usize,
    /// Why it failed.
    pub error: SessionError,
}

/// An open connection. Dropping it closes it, and a statement in progress ends soon after.
#[derive(Debug)]
pub(super) struct RawSession {
    pub(super) client: Client,
    /// Moves the bytes. The task ends with the client, and is aborted with the session at the
    /// latest.
    _connection: AbortOnDropHandle<()>,
    /// The address for requests to cancel.
    address: Config,
    pub(super) deadlines: SessionDeadlines,
    /// Dropped after the connection.
    _footprint: Option<Footprint>,
}

impl RawSession {
    /// Connects within the deadline.
    pub(super) async fn connect(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
    ) -> Result<Self, SessionError> {
        let Some(hardening) = config.hardening() else {
            return Self::open(config, &config.client(), deadlines).await;
        };
        let own = config.own_options();
        let mut client = config.client();
        client.options(hardening.startup_options(own));
        let denied = match Self::open(config, &client, deadlines).await {
            Err(SessionError::Connect(error)) if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                error
            }
            other => return other,
        };
        // The login may be only a member of the role (05 §18).
        let (options, later) = hardening.in_two_steps(own);
        client.options(options);
        let session = match Self::open(config, &client, deadlines).await {
            Err(SessionError::Connect(_)) => return Err(SessionError::Connect(denied)),
            other => other?,
        };
        session.batch(&later).await.map_err(|batch| batch.error)?;
        Ok(session)
    }

    async fn open(
        config: &SessionConfig,
        client: &Config,
        deadlines: SessionDeadlines,
    ) -> Result<Self, SessionError> {
        let footprint = config.footprint();
        let connected = timeout(deadlines.connect, reach::connect(client, config.database_bytes()));
        let (client, connection) = connected
            .await
            .map_err(|_| SessionError::ConnectDeadline {
                at: reach::shown_places(&config.client()),
                limit: deadlines.connect,
            })?
            .map_err(SessionError::Connect)?;
        let address = config.client();
        Ok(Self { client, _connection: connection, address, deadlines, _footprint: footprint })
    }

    /// Runs statements as one message, within the deadline of one statement.
    pub(super) async fn batch(&self, sql: &str) -> Result<Vec<Row>, BatchError> {
        let mut answers = Answers::default();
        let outcome =
            match timeout(self.deadlines.statement, answers.collect(&self.client, sql)).await {
                Ok(outcome) => outcome.map_err(|error| SessionError::Statement(error.into())),
                Err(_) => Err(SessionError::StatementDeadline(self.deadlines.statement)),
            };
        answers.end(outcome)
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The pid of the backend of the session. The server sends it at login, but the client library
    /// exposes it only in a cancel request, so such a request is written to a local pipe and read
    /// here. A query for it would take a fifth of the time of a session that reads once.
    pub(super) async fn pid(&self) -> Option<i32> {
        let (mut ours, theirs) = tokio::io::duplex(CANCEL_REQUEST);
        let written = self.client.cancel_token().cancel_query_raw(theirs, NoTls).await;
        // Length, code, pid, secret.
        let mut head = [0; 8];
        written.ok()?;
        ours.read_exact(&mut head).await.ok()?;
        ours.read_i32().await.ok()
    }

    /// Asks the server to cancel: a statement whose answer is no longer needed must not change
    /// anything later, when the lock that it waits for is free.
    pub(super) async fn cancel(&self) {
        let token = self.client.cancel_token();
        let cancelled = cancel::cancel(&token, &self.address);
        match timeout(CANCEL_DEADLINE, cancelled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("could not cancel a statement: {error}"),
            Err(_) => tracing::warn!("could not cancel a statement within {CANCEL_DEADLINE:?}"),
        }
    }
}

/// The answers of the server to a message so far.
#[derive(Debug, Default)]
pub(super) struct Answers {
    completed: usize,
    rows: Vec<Row>,
}

impl Answers {
    pub(super) async fn collect(
        &mut self,
        client: &Client,
        sql: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let mut answers = pin!(client.simple_query_raw(sql).await?);
        while let Some(answer) = answers.try_next().await? {
            match answer {
                SimpleQueryMessage::Row(row) => self.rows.push(Row::new(row)),
                SimpleQueryMessage::CommandComplete(_) => {
                    self.completed = self.completed.saturating_add(1);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn end(self, outcome: Result<(), SessionError>) -> Result<Vec<Row>, BatchError> {
        match outcome {
            Ok(()) => Ok(self.rows),
            Err(error) => Err(BatchError { completed: self.completed, error }),
        }
    }
}
