//! Turns errors into HTTP answers (03 §3.4).
//!
//! A handler returns [`ApiError`]; it becomes `{"error": "<text>"}`. [`super::observe`] logs the text.
//! Modules outside `http` do not know HTTP: the `From` implementations here give their errors a
//! status. For an error type of `http` the implementation stands beside the type.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::catalog::protected::Refusal;
use crate::catalog::trust::is_not_ours;
use crate::node::promotion::accept::RefusedSpec;
use crate::node::{ConfigureError, WrongStatus};
use crate::postgres::conf::ConfError;
use crate::spec::SpecError;
use crate::sql::SessionError;
use crate::telemetry::shown::{LONGEST, shown_to};

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    text: String,
}

/// Error document (02 §12.1).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorDocument {
    /// What is wrong.
    error: String,
}

impl ApiError {
    /// An error with a text for clients; no backtraces, no secrets (03 W16).
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// An internal error; the cause is in the log.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }
}

impl ApiError {
    /// Whether the document in the body cannot be used.
    pub(super) fn is_about_the_document(&self) -> bool {
        matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// Status and text.
    pub(super) fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.text)
    }

    /// The text for the client.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
impl ApiError {
    /// Status and text, for tests.
    pub(super) fn parts(self) -> (u16, String) {
        (self.status.as_u16(), self.text)
    }
}

/// The text of an error, in the extensions of its answer: for the log.
#[derive(Debug, Clone)]
pub(super) struct ErrorText(pub(super) String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // In quotes and cut: the text may repeat input of an unauthenticated client. Server errors
        // mostly quote Postgres, whose messages need more room.
        let longest = if self.status.is_client_error() { LONGEST } else { 4 * LONGEST };
        let text = ErrorText(shown_to(&self.text, longest).quoted().to_string());
        let mut response = (self.status, Json(ErrorDocument { error: self.text })).into_response();
        response.extensions_mut().insert(text);
        response
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<WrongStatus> for ApiError {
    fn from(error: WrongStatus) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, error.to_string())
    }
}

impl From<ConfigureError> for ApiError {
    fn from(error: ConfigureError) -> Self {
        match error {
            ConfigureError::WrongStatus(error) => error.into(),
            ConfigureError::Refused(text) => Self::new(StatusCode::BAD_REQUEST, text),
            ConfigureError::NotBegun(_)
            | ConfigureError::Failed(_)
            | ConfigureError::Interrupted => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

impl From<SpecError> for ApiError {
    fn from(error: SpecError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<RefusedSpec> for ApiError {
    fn from(error: RefusedSpec) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<ConfError> for ApiError {
    fn from(error: ConfError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::new(StatusCode::FORBIDDEN, refusal.to_string())
    }
}

/// The texts that clients know (03 §5.4, §5.6): each begins with the error of the database or of
/// the connection.
impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let text = match &error {
            SessionError::Connect(answer) | SessionError::Statement(answer) => {
                let prefix = if answer.sqlstate.is_some() { "db error: " } else { "" };
                format!("{prefix}{answer}")
            }
            _ => error.to_string(),
        };
        // A failed write is a reason to replace a compute; a table with another owner is not.
        let status = if is_not_ours(&error) {
            StatusCode::CONFLICT
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::PgError;
    use crate::state::ComputeStatus;
    use tokio_postgres::error::SqlState;

    #[test]
    fn statuses_and_texts() {
        let wrong = WrongStatus(ComputeStatus::TerminationPendingFast);
        let text = "invalid compute status: termination-pending-fast";
        assert_eq!(ApiError::from(wrong), ApiError::new(StatusCode::PRECONDITION_FAILED, text));
        let wrapped = ConfigureError::WrongStatus(wrong);
        assert_eq!(ApiError::from(wrapped), ApiError::new(StatusCode::PRECONDITION_FAILED, text));
        let failed = ConfigureError::Failed("no \"x\"\nCaused by: y".to_owned());
        assert_eq!(
            ApiError::from(failed).text,
            r#"compute configuration failed: "no \"x\"\nCaused by: y""#
        );
    }

    #[test]
    fn documented_texts() {
        let text = |error: SessionError| ApiError::from(error).parts();
        let refused = "error connecting to server: Connection refused (os error 111)";
        let error = PgError { sqlstate: None, text: refused.to_owned(), position: None, at: None };
        assert_eq!(text(SessionError::Connect(error)), (500, refused.to_owned()));
        let answer = "ERROR: relation \"public.health_check\" does not exist";
        let error = PgError {
            sqlstate: Some(SqlState::UNDEFINED_TABLE),
            text: answer.to_owned(),
            position: None,
            at: None,
        };
        assert_eq!(text(SessionError::Statement(error)), (500, format!("db error: {answer}")));
        let sqlstate = Some(SqlState::from_code("CT001"));
        let error =
            PgError { sqlstate, text: "ERROR: not ours".to_owned(), position: None, at: None };
        assert_eq!(text(SessionError::Statement(error)), (409, "db error: ERROR: not ours".into()));
    }
}
