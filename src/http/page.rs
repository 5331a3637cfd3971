//! The page of the compute, the reference of the API as a page, and the document behind the first
//! (`/details`). All are additions to the documented API.
//!
//! Both pages are for a person in front of a browser: on the internal server, and with `--dev` on
//! the external one for those that it lets in. They have no script and no secret, and their
//! policies allow nothing but their own style.
//!
//! No page of another site can read them: where no token is needed, [`super::foreign`] guards them.

use std::sync::OnceLock;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::answers::{EXTERNAL, INTERNAL, INTERNAL_URL, TokenErrors};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use super::{description, restart};
use crate::node::Details;
use crate::page::{self, Shown, content_security_policy};

/// Lines of the log on the page.
const LOG_LINES: usize = 100;
/// Longest pause between two loads of the page, in seconds.
const LONGEST_REFRESH: u16 = 3600;

/// Routes of both servers; the external one asks for a token.
pub(super) fn protected() -> Routes {
    vec![route!(details)]
}

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(status_page), route!(api_reference)]
}

/// The state of the compute for a person: history, readiness, peers. Reads what is known.
#[utoipa::path(
    get,
    path = "/details",
    operation_id = "getDetails",
    tag = EXTERNAL,
    servers((url = "http://localhost:3080"), (url = INTERNAL_URL)),
    summary = "The status and what explains it; on the internal server without a token",
    security(("JWT" = [])),
    responses(
        (status = 200, description = "At any time", body = Details),
        (status = 421, description = "On the internal server: the request is that of a page in a \
         browser, or `Host` is another site's name", body = ErrorDocument),
        TokenErrors
    )
)]
async fn details(State(api): State<Api>) -> Json<Details> {
    Json(restart::details(&api).await)
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    refresh: Option<u16>,
}

/// Costs nothing until it is asked for.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "getPage",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "A page for people; with `--dev` also on the external server",
    params(("refresh" = Option<u16>, Query, maximum = 3600, description = "Seconds until the browser loads the page \
            again; 0 for never, 5 if it is absent")),
    responses(
        (status = 200, description = "At any time", body = String, content_type = "text/html"),
        (status = 400, description = "The query cannot be used", body = ErrorDocument)
    )
)]
async fn status_page(
    State(api): State<Api>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(PageQuery { refresh }) = query?;
    let refresh = refresh.unwrap_or(page::REFRESH);
    if refresh > LONGEST_REFRESH {
        let text = format!("refresh is a number of seconds up to {LONGEST_REFRESH}");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, text));
    }
    let (details, log) = (restart::details(&api).await, api.node.log.recent().last(LOG_LINES));
    Ok(html(page::render(Shown { details: &details, log: &log, refresh }).into()))
}

#[utoipa::path(
    get,
    path = "/api",
    operation_id = "getApiReference",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "This description as a page; with `--dev` also on the external server",
    responses(
        (status = 200, description = "At any time", body = String, content_type = "text/html"),
        (status = 500, description = "Should not happen", body = ErrorDocument)
    )
)]
async fn api_reference() -> Result<Response, ApiError> {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = match TEXT.get() {
        Some(text) => text,
        None => {
            let document = serde_json::from_slice(&description::text()?);
            let document = document.map_err(|error| {
                tracing::error!("could not read the description of the API: {error}");
                ApiError::internal()
            })?;
            TEXT.get_or_init(|| page::reference::render(&document).into())
        }
    };
    Ok(html(text.clone()))
}

/// An answer that no other site can use, and that is not kept.
fn html(text: Bytes) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, content_security_policy()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    (headers, text).into_response()
}
