//! `/log_level`: another level of the log for a limited time.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answers::{BodyErrors, INTERNAL, INTERNAL_URL};
use super::api::{Api, Routes, route};
use super::body::JsonBody;
use super::error::{ApiError, ErrorDocument};
use crate::duration;
use crate::server::Peer;
use crate::telemetry::level_change;
use crate::telemetry::levels::Levels;
use crate::telemetry::shown::shown;

/// Time limit without `for`.
const DEFAULT: Duration = Duration::from_secs(600);

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(show, change)]
}

/// The level of the log.
#[derive(Debug, Serialize, ToSchema)]
struct LogLevel {
    /// The filter in force, in the form of `RUST_LOG`.
    level: String,
    /// The filter of `RUST_LOG`, `info` without it.
    configured: String,
    /// When `configured` is in force again: RFC 3339, UTC. Null if it is now.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    until: Option<DateTime<Utc>>,
}

impl From<&Levels> for LogLevel {
    fn from(levels: &Levels) -> Self {
        let now = levels.now();
        let configured = levels.configured().to_owned();
        Self { level: now.filter, configured, until: now.until }
    }
}

/// Another level for a limited time.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"level": "debug", "for": "10m"}))]
struct LogLevelRequest {
    /// A level or any filter in the form of `RUST_LOG`.
    level: String,
    /// How long: `500ms`, `30s`, `10m` (the default); more than 0, a day at most.
    #[serde(rename = "for")]
    #[schema(
        pattern = "^0*((86400000|86[0-3][0-9]{5}|8[0-5][0-9]{6}|[1-7][0-9]{7}|[1-9][0-9]{0,6})ms|(86400|86[0-3][0-9]{2}|8[0-5][0-9]{3}|[1-7][0-9]{4}|[1-9][0-9]{0,3})s?|(1440|14[0-3][0-9]|1[0-3][0-9]{2}|[1-9][0-9]{0,2})m)$"
    )]
    limit: Option<String>,
}

/// Reads a `for`. The pattern in the description accepts the same texts.
pub(super) fn limit(text: &str) -> Result<Duration, ApiError> {
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text);
    let limit = duration::parse(text).map_err(|error| bad(format!("for: {error}")))?;
    if limit.is_zero() {
        return Err(bad("for: more than 0 is needed".to_owned()));
    }
    Ok(limit)
}

fn levels(api: &Api) -> Result<&Levels, ApiError> {
    api.node.log.levels().ok_or_else(ApiError::internal)
}

#[utoipa::path(
    get,
    path = "/log_level",
    operation_id = "getLogLevel",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "The level of the log",
    responses(
        (status = 200, description = "At any time", body = LogLevel),
        (status = 500, description = "Should not happen", body = ErrorDocument)
    )
)]
async fn show(State(api): State<Api>) -> Result<Json<LogLevel>, ApiError> {
    Ok(Json(levels(&api)?.into()))
}

#[utoipa::path(
    post,
    path = "/log_level",
    operation_id = "setLogLevel",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "Another level of the log for a limited time",
    description = "A later request replaces an earlier one. The configured level ends the time at once",
    request_body = LogLevelRequest,
    responses(
        (status = 200, description = "In force", body = LogLevel),
        (status = 500, description = "Should not happen", body = ErrorDocument),
        BodyErrors
    )
)]
async fn change(
    State(api): State<Api>,
    peer: Option<Extension<Peer>>,
    JsonBody(request): JsonBody<LogLevelRequest>,
) -> Result<Json<LogLevel>, ApiError> {
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text);
    let levels = levels(&api)?;
    let limit = request.limit.as_deref().map(limit).transpose()?.unwrap_or(DEFAULT);
    let log = &api.node.log;
    let by = peer.map_or_else(|| "a client".to_owned(), |peer| peer.0.0.to_string());
    level_change::change(log, levels, &request.level, limit, &by).map_err(|parts| {
        let parts: Vec<_> = parts.iter().map(|part| shown(part).quoted().to_string()).collect();
        bad(format!(
            "level: {} cannot be used; a part is a level (error, warn, info, debug, trace, off) or \
             TARGET=LEVEL",
            parts.join(", ")
        ))
    })?;
    if let Some(keeper) = level_change::keeper(log) {
        api.node.background.spawn(keeper);
    }
    Ok(Json(levels.into()))
}
