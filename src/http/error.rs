//! The one place where errors become HTTP answers (03 §3.4).
//!
//! A handler returns [`ApiError`]; it becomes `{"error": "<text>"}` and is logged on the way out.
//! Texts come from the error types of the modules below, which know no HTTP; the `From`
//! implementations here give them their status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::BodyError;
use super::claims::ClaimsError;
use crate::catalog::protected::Refusal;
use crate::node::promotion::accept::RefusedSpec;
use crate::node::{ConfigureError, WrongStatus};
use crate::postgres::conf::ConfError;
use crate::spec::SpecError;
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

    /// Something that should not happen; the cause is in the log.
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }
}

#[cfg(test)]
impl ApiError {
    /// Status and text, for tests.
    pub(super) fn parts(self) -> (u16, String) {
        (self.status.as_u16(), self.text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // In quotes and cut: the text may repeat what a stranger sent. What fails in the server is
        // mostly told in the words of Postgres, which need more room.
        let longest = if self.status.is_client_error() { LONGEST } else { 4 * LONGEST };
        let text = shown_to(&self.text, longest).quoted().to_string();
        tracing::error!("answering {}: {text}", self.status.as_u16());
        (self.status, Json(ErrorDocument { error: self.text })).into_response()
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
            ConfigureError::Failed(_) | ConfigureError::Interrupted => {
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

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyError::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
            BodyError::Interrupted(_) | BodyError::Syntax(_) => StatusCode::BAD_REQUEST,
            BodyError::Shape(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ClaimsError> for ApiError {
    fn from(error: ClaimsError) -> Self {
        let status = match error {
            ClaimsError::AudienceMissing | ClaimsError::AudienceInvalid => StatusCode::UNAUTHORIZED,
            ClaimsError::ComputeIdMissing | ClaimsError::ComputeIdInvalid => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ComputeStatus;

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
}
