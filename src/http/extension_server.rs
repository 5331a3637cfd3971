//! The route by which Postgres asks for the files of an extension (03 §8.1).
//!
//! Postgres waits for the answer, ignores its status, and then looks for the files itself.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::answers::{INTERNAL, INTERNAL_URL};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use crate::services::extensions::index;

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(fetch_extension)]
}

#[derive(Debug, Deserialize)]
struct ExtensionQuery {
    #[serde(default)]
    is_library: bool,
}

/// Works in every state that has a spec, because Postgres also asks during its start.
#[utoipa::path(
    post,
    path = "/extension_server/{*filename}",
    operation_id = "downloadExtension",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "Fetch and install an extension, or the one that a library belongs to",
    params(
        ("filename" = String, Path, description = "Name of the extension or library; may contain slashes"),
        ("is_library" = Option<bool>, Query, description = "Whether it names a library")
    ),
    responses(
        (status = 200, description = "The files are there"),
        (status = 400, description = "The path or the query cannot be read", body = ErrorDocument),
        (status = 404, description = "The index has no such name", body = ErrorDocument),
        (status = 409, description = "The spec has no index", body = ErrorDocument),
        (status = 412, description = "No `--remote-ext-base-url`", body = ErrorDocument),
        (status = 500, description = "It could not be fetched", body = ErrorDocument)
    )
)]
async fn fetch_extension(
    State(api): State<Api>,
    filename: Result<Path<String>, PathRejection>,
    query: Result<Query<ExtensionQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text.to_lowercase());
    let Path(name) = filename.map_err(|rejection| bad(rejection.body_text()))?;
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;

    let store = &api.node.extensions;
    if !store.is_enabled() {
        let text = "remote storage is not configured";
        return Err(ApiError::new(StatusCode::PRECONDITION_FAILED, text));
    }
    let spec = api.node.spec();
    let index = spec.as_ref().and_then(|spec| spec.spec.remote_extensions.as_ref());
    let index = index.ok_or_else(|| {
        let text = "information about remote extensions is unavailable";
        ApiError::new(StatusCode::CONFLICT, text)
    })?;
    let extension = index::resolve(index, &name, query.is_library)
        .map_err(|error| ApiError::new(StatusCode::NOT_FOUND, error.to_string()))?;
    store.fetch(extension).await.map_err(|error| {
        let text = format!(
            "Failed to download a remote file: error downloading extension \"{extension}\": {error}"
        );
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    Ok(StatusCode::OK)
}
