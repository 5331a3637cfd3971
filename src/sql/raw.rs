//! One connection, hardened: open it, ask, cancel.
//!
//! Not for use outside of this room: a statement that waits for a lock passes the deadline of the
//! whole statement here, and the error cannot say whose lock it was. [`Session`](super::Session)
//! adds that.

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

/// For telling the server that its answer is not needed any more, and for its last answer after that.
pub(super) const CANCEL_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes of a request to cancel a statement.
const CANCEL_REQUEST: usize = 16;

/// How long to wait on our side; the server's own time-outs are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionDeadlines {
    /// From the first address tried to a session that can be used.
    pub connect: Duration,
    /// For one message with all its statements.
    pub statement: Duration,
    /// For one lock of another session. Users' transactions are usually short; where they are not,
    /// waiting longer also makes other users wait, behind us in the queue.
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

/// How far a message with several statements got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchError {
    /// Statements that were done; the next one is the one that failed. All statements of a message
    /// are one transaction, so these were rolled back.
    pub completed: usize,
    /// Why it ended.
    pub error: SessionError,
}

/// An open connection. Dropping it closes it, and a statement in progress ends soon after.
#[derive(Debug)]
pub(super) struct RawSession {
    pub(super) client: Client,
    /// Moves the bytes. It ends with the client, and is aborted with the session at the latest.
    _connection: AbortOnDropHandle<()>,
    /// Where requests to cancel go.
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
        // The login may be a mere member of the role (05 §18).
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
            .map_err(|_| SessionError::ConnectDeadline(deadlines.connect))?
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

    /// The backend of the session. The server has told its number at the login; the client library
    /// keeps it to itself, except in the request that would cancel a statement, which is written
    /// into our own hands here. To ask would cost a session that looks once a fifth of its time.
    pub(super) async fn pid(&self) -> Option<i32> {
        let (mut ours, theirs) = tokio::io::duplex(CANCEL_REQUEST);
        let written = self.client.cancel_token().cancel_query_raw(theirs, NoTls).await;
        // Length, code, pid, secret.
        let mut head = [0; 8];
        written.ok()?;
        ours.read_exact(&mut head).await.ok()?;
        ours.read_i32().await.ok()
    }

    /// A statement whose answer is not needed any more must not change anything later on, when the lock that it
    /// waits for is free.
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

/// What the server has answered to a message so far.
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
