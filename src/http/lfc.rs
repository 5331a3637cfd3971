//! The routes of the local file cache (03 §7).

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use serde::Deserialize;

use super::answers::{EXTERNAL, TokenErrors};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use crate::services::lfc::states::{OffloadState, PrewarmState};

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
    vec![route!(prewarm_state, start_prewarm, cancel_prewarm), route!(offload_state, start_offload)]
}

#[utoipa::path(
    get,
    path = "/lfc/prewarm",
    operation_id = "getLfcPrewarmState",
    tag = EXTERNAL,
    summary = "State of the last prewarm",
    security(("JWT" = [])),
    responses(
        (status = 200, description = "At any time", body = PrewarmState),
        TokenErrors
    )
)]
async fn prewarm_state(State(api): State<Api>) -> Json<PrewarmState> {
    Json(api.node.lfc.prewarm_state())
}

#[derive(Debug, Deserialize)]
struct PrewarmQuery {
    from_endpoint: String,
}

/// Answers at once; GET shows the progress. Works in every status that has a spec (03 W3).
#[utoipa::path(
    post,
    path = "/lfc/prewarm",
    operation_id = "lfcPrewarm",
    tag = EXTERNAL,
    summary = "Begin a prewarm",
    params(("from_endpoint" = Option<String>, Query, description = "Take the state of this endpoint")),
    security(("JWT" = [])),
    responses(
        (status = 202, description = "Begun"),
        (status = 412, description = "There is no spec yet", body = ErrorDocument),
        (status = 429, description = "One is running", body = ErrorDocument),
        TokenErrors,
        (status = 400, description = "Token malformed, or a query without `from_endpoint`", body = ErrorDocument)
    )
)]
async fn start_prewarm(State(api): State<Api>, uri: Uri) -> Result<StatusCode, ApiError> {
    let from_endpoint = match uri.query() {
        None => None,
        Some(_) => Some(Query::<PrewarmQuery>::try_from_uri(&uri)?.0.from_endpoint),
    };
    let spec = api.node.require_spec()?;
    api.node.lfc.start_prewarm(spec, from_endpoint).map_err(|_| {
        let text = "Multiple requests for prewarm are not allowed";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, text)
    })?;
    Ok(StatusCode::ACCEPTED)
}

/// Asks a running prewarm to end.
#[utoipa::path(
    delete,
    path = "/lfc/prewarm",
    operation_id = "cancelLfcPrewarm",
    tag = EXTERNAL,
    summary = "Cancel the prewarm, if one is running",
    security(("JWT" = [])),
    responses(
        (status = 202, description = "In any case"),
        TokenErrors
    )
)]
async fn cancel_prewarm(State(api): State<Api>) -> StatusCode {
    api.node.lfc.cancel_prewarm();
    StatusCode::ACCEPTED
}

#[utoipa::path(
    get,
    path = "/lfc/offload",
    operation_id = "getLfcOffloadState",
    tag = EXTERNAL,
    summary = "State of the last offload",
    security(("JWT" = [])),
    responses(
        (status = 200, description = "At any time", body = OffloadState),
        TokenErrors
    )
)]
async fn offload_state(State(api): State<Api>) -> Json<OffloadState> {
    Json(api.node.lfc.offload_state())
}

#[utoipa::path(
    post,
    path = "/lfc/offload",
    operation_id = "lfcOffload",
    tag = EXTERNAL,
    summary = "Begin an offload",
    security(("JWT" = [])),
    responses(
        (status = 202, description = "Begun"),
        (status = 412, description = "There is no spec yet", body = ErrorDocument),
        (status = 429, description = "One is running", body = ErrorDocument),
        TokenErrors
    )
)]
async fn start_offload(State(api): State<Api>) -> Result<StatusCode, ApiError> {
    let spec = api.node.require_spec()?;
    api.node.lfc.start_offload(spec).map_err(|_| {
        let text = "Multiple requests for prewarm offload are not allowed";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, text)
    })?;
    Ok(StatusCode::ACCEPTED)
}
