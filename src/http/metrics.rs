//! The routes that show metrics (03 §5.2, §10). Neither takes a lock that the start holds.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::answers::{EXTERNAL, TokenErrors};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use crate::node::StartupMetrics;
use crate::telemetry::metrics::CONTENT_TYPE;

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
    vec![route!(startup_metrics)]
}

/// Routes of the external server that are open to all.
pub(super) fn open() -> Routes {
    vec![route!(metrics)]
}

#[utoipa::path(
    get,
    path = "/metrics.json",
    operation_id = "getComputeMetricsJSON",
    tag = EXTERNAL,
    summary = "How long the parts of the start took",
    security(("JWT" = [])),
    responses((status = 200, description = "0 until known", body = StartupMetrics), TokenErrors)
)]
async fn startup_metrics(State(api): State<Api>) -> Json<StartupMetrics> {
    Json(api.node.startup_metrics())
}

#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "getComputeMetrics",
    tag = EXTERNAL,
    summary = "Metrics in the text format of Prometheus",
    responses(
        (status = 200, description = "At any time", body = String, content_type = "text/plain"),
        (status = 500, description = "Should not happen", body = ErrorDocument)
    )
)]
async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, ApiError> {
    let text = api.node.scrape().map_err(|error| {
        tracing::error!("could not render the metrics: {error}");
        ApiError::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}
