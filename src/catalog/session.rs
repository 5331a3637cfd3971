//! Sessions on the managed Postgres (01 §4, 05 §3).
//!
//! Users may attach settings to databases and roles that would break or redirect whatever runs
//! here, so every session starts with options that outrank them, see `options`. Nothing here
//! waits without a deadline; a statement that waits for a lock is told apart from a slow one, and
//! the error says who has the lock (`blocked`, `watch`). No error shows SQL text, which may hold
//! password verifiers. Names come as bytes, whatever encoding they were made in (`wire`).

mod blocked;
mod call;
mod cancel;
mod config;
mod error;
mod footprint;
mod maintenance;
mod options;
mod reach;
mod row;
mod watch;
mod wire;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use crate::timeouts::Timeouts;
use blocked::Wait;
pub use blocked::{Activity, Blocker};
pub use call::{CallError, CallLimits};
pub use config::{SessionConfig, session_config};
pub use error::{PgError, SessionError};
pub use footprint::{Footprint, visited_within};
pub use maintenance::MaintenanceSession;
pub(crate) use options::child_options;
pub use row::{Row, is_foreign, shown};

/// `application_name` of sessions that change catalogs.
pub const APPLY_CONFIG: &str = "compute_ctl:apply_config";
/// `application_name` of migrations.
pub const MIGRATIONS: &str = "compute_ctl:migrations";
/// `application_name` of the upgrade of the `neon` extension after the start.
pub const POST_APPLY_CONFIG: &str = "compute_ctl:post_apply_config";

/// For telling the server that nobody waits any more, and for its last answer after that.
const CANCEL_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes of a request to cancel a statement.
const CANCEL_REQUEST: usize = 16;

/// How long to wait on our side; the server's own time-outs are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionDeadlines {
    /// From the first address tried to a session that can be used.
    pub connect: Duration,
    /// For one message with all its statements.
    pub statement: Duration,
    /// For one lock that somebody else has.
    pub lock: Duration,
}

impl From<&Timeouts> for SessionDeadlines {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            connect: timeouts.sql_connect,
            statement: timeouts.sql_statement,
            lock: timeouts.sql_lock,
        }
    }
}

/// An open connection. Dropping it closes it, and a statement in progress ends soon after.
#[derive(Debug)]
pub struct Session {
    client: Client,
    /// Moves the bytes. It ends with the client, and is aborted with the session at the latest.
    _connection: AbortOnDropHandle<()>,
    config: SessionConfig,
    deadlines: SessionDeadlines,
    /// Dropped after the connection.
    _footprint: Option<Footprint>,
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

impl Session {
    /// Connects within the deadline.
    pub async fn connect(
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
        session.unwatched(&later).await.map_err(|batch| batch.error)?;
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
        let config = config.clone();
        Ok(Self { client, _connection: connection, config, deadlines, _footprint: footprint })
    }

    /// Runs statements as one message, that is, in one round trip and (without transaction
    /// commands in it) one transaction. Returns the rows of all of them.
    ///
    /// A message that passes its deadline, or waits for one lock for too long, is cancelled; the
    /// session can be used afterwards, unless the server does not even answer that.
    pub async fn batch(&self, sql: &str) -> Result<Vec<Row>, BatchError> {
        let mut answers = Answers::default();
        let outcome = self.watched(answers.collect(&self.client, sql)).await;
        answers.end(outcome)
    }

    /// Like [`Session::batch`], for those who do not care how far it got.
    pub async fn query(&self, sql: &str) -> Result<Vec<Row>, SessionError> {
        self.batch(sql).await.map_err(|batch| batch.error)
    }

    /// Like [`Session::batch`], without looking at locks.
    async fn unwatched(&self, sql: &str) -> Result<Vec<Row>, BatchError> {
        let mut answers = Answers::default();
        let outcome =
            match timeout(self.deadlines.statement, answers.collect(&self.client, sql)).await {
                Ok(outcome) => outcome.map_err(|error| SessionError::Statement(error.into())),
                Err(_) => Err(SessionError::StatementDeadline(self.deadlines.statement)),
            };
        answers.end(outcome)
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The backend of the session. The server has told its number at the login; the client library
    /// keeps it to itself, except in the request that would cancel a statement, which is written
    /// into our own hands here. To ask would cost a session that looks once a fifth of its time.
    async fn pid(&self) -> Option<i32> {
        let (mut ours, theirs) = tokio::io::duplex(CANCEL_REQUEST);
        let written = self.client.cancel_token().cancel_query_raw(theirs, NoTls).await;
        // Length, code, pid, secret.
        let mut head = [0; 8];
        written.ok()?;
        ours.read_exact(&mut head).await.ok()?;
        ours.read_i32().await.ok()
    }

    /// Runs something on the client until it is done, passes its deadline, or has waited too long
    /// for a lock.
    async fn watched(
        &self,
        work: impl Future<Output = Result<(), tokio_postgres::Error>>,
    ) -> Result<(), SessionError> {
        let mut work = pin!(work);
        let began = Instant::now();
        let deadline = began + self.deadlines.statement;
        let mut look = began + self.deadlines.lock;
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
                let limit = self.deadlines.statement;
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
                    // That this is the deadline is for the next turn to tell.
                    Err(SessionError::StatementDeadline(deadline.duration_since(asked)))
                }),
            };
            unknown = wait.as_ref().err().cloned();
            let waited = match wait {
                Ok(Some(Wait { waited, blockers })) if waited >= self.deadlines.lock => {
                    break SessionError::Blocked { waited, blockers };
                }
                Ok(Some(wait)) => wait.waited,
                Ok(None) | Err(_) => Duration::ZERO,
            };
            // When the lock that it waits for now would have taken too long.
            look = Instant::now() + self.deadlines.lock.saturating_sub(waited);
        };
        self.cancel().await;
        match timeout(CANCEL_DEADLINE, work).await {
            // The lock was free at the last moment.
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
        let Some(pid) = self.pid().await else { return Ok(None) };
        let wait = self.config.watch().wait_of(pid, &self.config, self.deadlines).await;
        if let Err(error) = &wait {
            tracing::warn!("could not find out what a slow statement waits for: {error}");
        }
        wait
    }

    /// A statement that nobody waits for must not change anything later on, when the lock that it
    /// waits for is free.
    pub async fn cancel(&self) {
        let (token, config) = (self.client.cancel_token(), self.config.client());
        let cancelled = cancel::cancel(&token, &config);
        match timeout(CANCEL_DEADLINE, cancelled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("could not cancel a statement: {error}"),
            Err(_) => tracing::warn!("could not cancel a statement within {CANCEL_DEADLINE:?}"),
        }
    }
}

/// What the server has answered to a message so far.
#[derive(Debug, Default)]
struct Answers {
    completed: usize,
    rows: Vec<Row>,
}

impl Answers {
    async fn collect(&mut self, client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
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

    fn end(self, outcome: Result<(), SessionError>) -> Result<Vec<Row>, BatchError> {
        match outcome {
            Ok(()) => Ok(self.rows),
            Err(error) => Err(BatchError { completed: self.completed, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::postgres::install::PgVersion;

    fn config(url: &str) -> Result<SessionConfig, SessionError> {
        session_config(url, APPLY_CONFIG, PgVersion::V17)
    }

    const fn deadlines(each: Duration) -> SessionDeadlines {
        SessionDeadlines { connect: each, statement: each, lock: each }
    }

    #[tokio::test]
    async fn a_silent_server_meets_the_deadline() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u@{}/d", listener.local_addr().unwrap());
        let config = config(&url).unwrap();
        let short = Duration::from_millis(20);
        let error = MaintenanceSession::connect(&config, deadlines(short)).await.unwrap_err();
        assert_eq!(error, SessionError::ConnectDeadline(short));
    }

    /// A server that lets the first one in and says nothing to the others. When the second one has
    /// come, it may answer what the first one has asked.
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

    /// Nobody knows what the statement waits for, but that is no reason to wait for it longer.
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
    async fn nobody_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u:planted@{}/d", listener.local_addr().unwrap());
        drop(listener);
        let config = config(&url).unwrap();
        let error =
            Session::connect(&config, deadlines(Duration::from_secs(60))).await.unwrap_err();
        assert!(matches!(error, SessionError::Connect(PgError { sqlstate: None, .. })));
        assert!(!error.to_string().contains("planted"));
    }
}
