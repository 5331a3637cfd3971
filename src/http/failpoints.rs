//! `/failpoints`: faults by name, in testing builds (03 §8.4).

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::answers::{BodyErrors, INTERNAL, INTERNAL_URL};
use super::api::{Api, Routes, route};
use super::body::JsonBody;
use super::error::ApiError;
use crate::failpoints;

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(configure)]
}

/// One fault (02 §12.10). One test suite sends `action` instead of `actions`.
#[derive(Debug, Deserialize, ToSchema)]
struct FailpointConfig {
    /// Name of the failpoint.
    name: String,
    /// `[p%][n*]task[(arg)]`, chained with `->`, or `exit`.
    #[serde(alias = "action")]
    actions: String,
}

/// Stops at the first bad failpoint; those before it stay active.
#[utoipa::path(
    post,
    path = "/failpoints",
    operation_id = "configureFailpoints",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "Make the program fail at named points",
    request_body = Vec<FailpointConfig>,
    responses((status = 200, description = "Set"), BodyErrors)
)]
async fn configure(
    State(_): State<Api>,
    JsonBody(points): JsonBody<Vec<FailpointConfig>>,
) -> Result<StatusCode, ApiError> {
    for FailpointConfig { name, actions } in points {
        failpoints::configure(&name, &actions).map_err(|reason| {
            let text = format!("failed to configure failpoints: {reason}");
            ApiError::new(StatusCode::BAD_REQUEST, text)
        })?;
    }
    Ok(StatusCode::OK)
}
