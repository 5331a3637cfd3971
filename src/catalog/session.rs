//! Sessions on the managed Postgres (01 §4, 05 §3).
//!
//! Users may attach settings to databases and roles that would break or redirect whatever runs
//! here, so every session starts with options that outrank them. They are written down once, in
//! [`session_config`]. Nothing here waits without a deadline, and no error shows SQL text, which
//! may hold password verifiers.

mod call;

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::task::AbortOnDropHandle;

pub use call::CallError;

/// `application_name` of sessions that change catalogs.
pub const APPLY_CONFIG: &str = "compute_ctl:apply_config";
/// `application_name` of the upgrade of the `neon` extension after the start.
pub const POST_APPLY_CONFIG: &str = "compute_ctl:post_apply_config";

/// Outranks what users attach to databases and roles. Postgres does not interpret the quotes, so
/// the search path is one schema that does not exist: only `pg_catalog` is visible, and
/// everything else must be qualified.
const FORCED_OPTIONS: &str = "-c role=cloud_admin -c default_transaction_read_only=off \
     -c search_path='' -c statement_timeout=0 -c pgaudit.log=none";

/// First statement of a maintenance session: the extension must not report back to the control
/// plane what the control plane itself ordered. Statements are kept out of the server's log,
/// whatever the spec or a user sets, because they may hold password verifiers (05 weakness 10).
const MAINTENANCE: &str = "SET neon.forward_ddl = false; \
     SET log_statement = none; \
     SET log_min_duration_statement = -1; \
     SET log_min_duration_sample = -1; \
     SET log_transaction_sample_rate = 0; \
     SET log_min_error_statement = panic";

/// For telling the server that nobody waits any more.
const CANCEL_DEADLINE: Duration = Duration::from_secs(1);

/// How long to wait on our side; the server's own `statement_timeout` is off.
#[derive(Debug, Clone, Copy)]
pub struct SessionDeadlines {
    /// From the first address tried to a session that can be used.
    pub connect: Duration,
    /// For one message with all its statements.
    pub statement: Duration,
}

/// What Postgres, or the way to it, had to say.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text}")]
pub struct PgError {
    /// Present when the server itself answered. Decisions are made by this, never by the text.
    pub sqlstate: Option<SqlState>,
    /// Severity, message, SQLSTATE, detail and hint in one line.
    pub text: String,
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            return Self { sqlstate: None, text: format!("{error}{cause}") };
        };
        let code = answer.code();
        let mut text =
            format!("{}: {} (SQLSTATE {})", answer.severity(), answer.message(), code.code());
        for (label, more) in [("detail", answer.detail()), ("hint", answer.hint())] {
            if let Some(more) = more {
                text.push_str(&format!("; {label}: {more}"));
            }
        }
        Self { sqlstate: Some(code.clone()), text }
    }
}

/// Why a session cannot be had or used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// `--connstr` is not what it should be. The text does not repeat it.
    #[error("--connstr is not a Postgres connection URL: {0}")]
    BadUrl(String),
    /// Refused, or nobody there.
    #[error("could not connect to Postgres: {0}")]
    Connect(PgError),
    /// No session in time.
    #[error("could not connect to Postgres within {0:?}")]
    ConnectDeadline(Duration),
    /// A statement failed.
    #[error(transparent)]
    Statement(PgError),
    /// No answer in time; the server was asked to cancel.
    #[error("Postgres did not answer within {0:?}")]
    StatementDeadline(Duration),
    /// An answer of another shape than the question.
    #[error("unexpected answer from Postgres: {0}")]
    Answer(String),
}

/// Connection settings for one use, from the URL in `--connstr`: hardened options first, then the
/// operator's own, so that these win. TLS is never used.
pub fn session_config(connstr: &str, application_name: &str) -> Result<Config, SessionError> {
    let bad = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        SessionError::BadUrl(format!("{error}{cause}"))
    };
    // Keyword strings are good enough for the client library, but not for those who take the port
    // from the URL.
    url::Url::parse(connstr).map_err(|error| bad(&error))?;
    let mut config: Config = connstr.parse().map_err(|error: tokio_postgres::Error| bad(&error))?;
    let options = match config.get_options() {
        Some(own) => format!("{FORCED_OPTIONS} {own}"),
        None => FORCED_OPTIONS.to_owned(),
    };
    config.options(options).application_name(application_name).ssl_mode(SslMode::Disable);
    Ok(config)
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    /// Moves the bytes. It ends with the client, and is aborted with the session at the latest.
    _connection: AbortOnDropHandle<()>,
    deadlines: SessionDeadlines,
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
        config: &Config,
        deadlines: SessionDeadlines,
    ) -> Result<Self, SessionError> {
        let connected = timeout(deadlines.connect, config.connect(NoTls)).await;
        let (client, connection) = connected
            .map_err(|_| SessionError::ConnectDeadline(deadlines.connect))?
            .map_err(|error| SessionError::Connect(error.into()))?;
        let connection = async move {
            // Whoever waits for an answer gets the same error.
            if let Err(error) = connection.await {
                tracing::debug!("a session ended: {}", PgError::from(error));
            }
        };
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Self { client, _connection: connection, deadlines })
    }

    /// Runs statements as one message, that is, in one round trip and (without transaction
    /// commands in it) one transaction. Returns the rows of all of them.
    pub async fn batch(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, BatchError> {
        let mut completed = 0_usize;
        let mut rows = Vec::new();
        let work = async {
            let mut answers = pin!(self.client.simple_query_raw(sql).await?);
            while let Some(answer) = answers.try_next().await? {
                match answer {
                    SimpleQueryMessage::Row(row) => rows.push(row),
                    SimpleQueryMessage::CommandComplete(_) => {
                        completed = completed.saturating_add(1);
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let outcome: Result<Result<(), tokio_postgres::Error>, _> =
            timeout(self.deadlines.statement, work).await;
        let error = match outcome {
            Ok(Ok(())) => return Ok(rows),
            Ok(Err(error)) => SessionError::Statement(error.into()),
            Err(_) => {
                self.cancel().await;
                SessionError::StatementDeadline(self.deadlines.statement)
            }
        };
        Err(BatchError { completed, error })
    }

    /// Like [`Session::batch`], for those who do not care how far it got.
    pub async fn query(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, SessionError> {
        self.batch(sql).await.map_err(|batch| batch.error)
    }

    /// A statement that nobody waits for must not change anything later on, when the lock that it
    /// waits for is free.
    async fn cancel(&self) {
        let token = self.client.cancel_token();
        match timeout(CANCEL_DEADLINE, token.cancel_query(NoTls)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("could not cancel a statement: {}", PgError::from(error));
            }
            Err(_) => tracing::warn!("could not cancel a statement within {CANCEL_DEADLINE:?}"),
        }
    }
}

/// A session that may change catalogs: it does not forward DDL to the control plane (05 §3.3).
#[derive(Debug)]
pub struct MaintenanceSession(Session);

impl MaintenanceSession {
    /// Connects under the name [`APPLY_CONFIG`], whatever the settings say, and switches
    /// forwarding off.
    pub async fn connect(
        config: &Config,
        deadlines: SessionDeadlines,
    ) -> Result<Self, SessionError> {
        let mut config = config.clone();
        config.application_name(APPLY_CONFIG);
        let session = Session::connect(&config, deadlines).await?;
        session.query(MAINTENANCE).await?;
        Ok(Self(session))
    }

    /// The session for statements that any session may run.
    pub const fn session(&self) -> &Session {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "-c role=cloud_admin -c default_transaction_read_only=off \
        -c search_path='' -c statement_timeout=0 -c pgaudit.log=none";

    #[test]
    fn the_operators_options_come_last() {
        let config = session_config("postgresql://u:pw@h:55/d", "a:b").unwrap();
        assert_eq!(config.get_options(), Some(OPTIONS));
        assert_eq!(config.get_application_name(), Some("a:b"));
        assert_eq!(config.get_ports(), [55]);

        let url =
            "postgresql://u@h/d?options=-c%20work_mem%3D1MB&application_name=x&sslmode=require";
        let config = session_config(url, APPLY_CONFIG).unwrap();
        assert_eq!(config.get_options(), Some(format!("{OPTIONS} -c work_mem=1MB").as_str()));
        assert_eq!(config.get_application_name(), Some(APPLY_CONFIG));
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn errors_do_not_repeat_the_url() {
        for url in
            ["host=localhost password=planted", "http://u:planted@h", "postgresql://u:planted@h:x"]
        {
            let error = session_config(url, APPLY_CONFIG).unwrap_err().to_string();
            assert!(error.starts_with("--connstr is not a Postgres connection URL"), "{error}");
            assert!(!error.contains("planted"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_silent_server_meets_the_deadline() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u@{}/d", listener.local_addr().unwrap());
        let config = session_config(&url, APPLY_CONFIG).unwrap();
        let short = Duration::from_millis(20);
        let deadlines = SessionDeadlines { connect: short, statement: short };
        let error = MaintenanceSession::connect(&config, deadlines).await.unwrap_err();
        assert_eq!(error, SessionError::ConnectDeadline(short));
    }

    #[tokio::test]
    async fn nobody_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u:planted@{}/d", listener.local_addr().unwrap());
        drop(listener);
        let config = session_config(&url, APPLY_CONFIG).unwrap();
        let long = Duration::from_secs(60);
        let deadlines = SessionDeadlines { connect: long, statement: long };
        let error = Session::connect(&config, deadlines).await.unwrap_err();
        assert!(matches!(error, SessionError::Connect(PgError { sqlstate: None, .. })));
        assert!(!error.to_string().contains("planted"));
    }
}
