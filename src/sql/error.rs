//! Errors of sessions and their statements. No text here repeats SQL or the connection URL.

use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::{ErrorPosition, SqlState};

use super::blocker::{self, Blocker};
use crate::errors::one_line;

/// An error from Postgres, or from the connection to it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text}")]
pub struct PgError {
    /// Present when the server itself answered. Decisions use this code, never the text.
    pub sqlstate: Option<SqlState>,
    /// Severity, message, SQLSTATE, detail and hint in one line.
    pub text: String,
    /// The character of the message that the error is about, counted from 1. A message that does
    /// not parse fails before its first statement, and only this position tells which statement is
    /// wrong.
    pub position: Option<usize>,
    /// Host and port, or the socket, of a server that could not be reached. It is not in the text,
    /// which clients of the API know.
    pub at: Option<String>,
}

impl PgError {
    /// Whether the server answered with this SQLSTATE.
    pub fn is(&self, sqlstate: &SqlState) -> bool {
        self.sqlstate.as_ref() == Some(sqlstate)
    }
}

impl PgError {
    /// An error of the connection, not of the server.
    pub(super) const fn of_the_way(text: String) -> Self {
        Self { sqlstate: None, text, position: None, at: None }
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            return Self::of_the_way(one_line(&error));
        };
        let code = answer.code();
        let mut text =
            format!("{}: {} (SQLSTATE {})", answer.severity(), answer.message(), code.code());
        for (label, more) in [("detail", answer.detail()), ("hint", answer.hint())] {
            if let Some(more) = more {
                text.push_str(&format!("; {label}: {more}"));
            }
        }
        let position = match answer.position() {
            Some(ErrorPosition::Original(position)) => usize::try_from(*position).ok(),
            _ => None,
        };
        Self { sqlstate: Some(code.clone()), text, position, at: None }
    }
}

/// Why a session cannot be opened or used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SessionError {
    /// `--connstr` is not valid. The text does not repeat it.
    #[error("--connstr is not a Postgres connection URL: {0}")]
    BadUrl(String),
    /// The server refused the session, or did not answer.
    #[error("could not connect to Postgres{at}: {0}", at = place(.0))]
    Connect(PgError),
    /// No session within the deadline.
    #[error("could not connect to Postgres at {at} within {limit:?}")]
    ConnectDeadline {
        /// Hosts and ports.
        at: String,
        /// The deadline.
        limit: Duration,
    },
    /// A statement failed.
    #[error(transparent)]
    Statement(PgError),
    /// No answer within the deadline; the server was asked to cancel.
    #[error("Postgres did not answer within {0:?}")]
    StatementDeadline(Duration),
    /// The same, and the lock watch failed, so that the reason is unknown; the server was asked to
    /// cancel.
    #[error(
        "Postgres did not answer within {limit:?}; whether a lock was in the way, and whose, could not \
         be found out: {}",
        because(why)
    )]
    Unexplained {
        /// The deadline.
        limit: Duration,
        /// Why the session of the lock watch failed.
        why: Box<SessionError>,
    },
    /// Another session holds a lock; the server was asked to cancel.
    #[error("gave up after {} s of waiting for a lock held by {}", waited.as_secs(), blocker::list(blockers))]
    Blocked {
        /// Time that the statement waited for this lock.
        waited: Duration,
        /// The holders, at least one.
        blockers: Vec<Blocker>,
    },
    /// The server refused the login, and that of old clusters too (05 §3.3).
    #[error(
        "broken cloud_admin credential: Postgres refuses user {user:?} of --connstr: {refused}; user \
         \"zenith_admin\", tried next, cannot log in either: {fallback}. Give the superuser of this data \
         directory in --connstr, usually cloud_admin"
    )]
    BrokenCredential {
        /// The user in `--connstr`.
        user: String,
        /// The answer to the login in `--connstr`.
        refused: PgError,
        /// The answer to the login as `zenith_admin`.
        fallback: Box<SessionError>,
    },
    /// `cloud_admin` could not be created in an old cluster.
    #[error("apply_config setup cloud_admin: {0}")]
    SetUpAdmin(Box<SessionError>),
    /// The answer does not have the expected shape.
    #[error("unexpected answer from Postgres: {0}")]
    Answer(String),
}

impl SessionError {
    /// The error of the server itself, if it answered.
    pub const fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Connect(error) | Self::Statement(error) => error.sqlstate.as_ref(),
            _ => None,
        }
    }

    /// Whether a time limit ended a statement: the server says so (SQLSTATE 57014), or was asked
    /// to end it after one of our limits.
    pub fn is_time_limit(&self) -> bool {
        match self {
            Self::Statement(error) => error.is(&SqlState::QUERY_CANCELED),
            Self::StatementDeadline(_) | Self::Unexplained { .. } | Self::Blocked { .. } => true,
            _ => false,
        }
    }

    /// Whether the server has too many clients, or reserves the remaining connections for others.
    pub fn is_full(&self) -> bool {
        self.sqlstate() == Some(&SqlState::TOO_MANY_CONNECTIONS)
    }

    /// The character of a message that the error is about, counted from 1.
    pub const fn position(&self) -> Option<usize> {
        match self {
            Self::Statement(error) => error.position,
            _ => None,
        }
    }
}

fn place(error: &PgError) -> String {
    error.at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default()
}

/// The usual reason in plain words.
fn because(why: &SessionError) -> String {
    if why.is_full() {
        format!("the server has no free connection, {why}")
    } else {
        why.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: SqlState) -> PgError {
        PgError { sqlstate: Some(code), position: Some(7), ..PgError::of_the_way("so".to_owned()) }
    }

    #[test]
    fn only_a_statement_has_a_position() {
        assert_eq!(SessionError::Statement(answer(SqlState::SYNTAX_ERROR)).position(), Some(7));
        assert_eq!(SessionError::Connect(answer(SqlState::SYNTAX_ERROR)).position(), None);
    }

    #[test]
    fn a_full_server_is_named_as_the_reason() {
        let full = SessionError::Connect(answer(SqlState::TOO_MANY_CONNECTIONS));
        assert!(full.is_full());
        assert_eq!(because(&full), format!("the server has no free connection, {full}"));
        let other = SessionError::Connect(answer(SqlState::INVALID_PASSWORD));
        assert!(!other.is_full());
        assert_eq!(because(&other), other.to_string());
        let lost = SessionError::Connect(PgError::of_the_way("lost".to_owned()));
        assert!(!lost.is_full());
    }

    #[test]
    fn a_time_limit_is_ours_or_the_servers() {
        assert!(SessionError::StatementDeadline(Duration::ZERO).is_time_limit());
        assert!(SessionError::Statement(answer(SqlState::QUERY_CANCELED)).is_time_limit());
        assert!(!SessionError::Statement(answer(SqlState::SYNTAX_ERROR)).is_time_limit());
        assert!(!SessionError::Connect(answer(SqlState::QUERY_CANCELED)).is_time_limit());
    }
}
