//! The page of the compute, the reference of the API as a page, and the document behind the first
//! (`/details`). All are additions to the documented API.
//!
//! Both pages are for a person in front of a browser: on the internal server, and with `--dev` on
//! the external one for those that it lets in. They have no script and no secret, and their
//! policies allow nothing but their own style.
//!
//! A page of another site can make a browser ask a server on its own machine, and read the answer
//! if a name of that site resolves to this machine (DNS rebinding). So where no token is needed,
//! these routes answer only to an address or `localhost` in `Host`; such a name is neither.

use std::net::IpAddr;
use std::sync::OnceLock;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::answers::{EXTERNAL, INTERNAL, INTERNAL_URL, TokenErrors};
use super::api::{Api, Route, Routes, route};
use super::error::{ApiError, ErrorDocument};
use super::{description, restart};
use crate::node::Details;
use crate::page::{self, Shown, content_security_policy};

/// Lines of the log on the page.
const LOG_LINES: usize = 100;
/// Longest pause between two loads of the page, in seconds.
const LONGEST_REFRESH: u16 = 3600;

/// Routes of the external server that ask for a token; on the internal one, where no token is asked
/// for, they need [`guarded`].
pub(super) fn protected() -> Routes {
    vec![route!(details)]
}

/// Routes of the internal server, [`guarded`].
pub(super) fn internal() -> Routes {
    guarded([route!(status_page), route!(api_reference)])
}

/// Routes that answer only to an address or `localhost`.
pub(super) fn guarded(routes: impl IntoIterator<Item = Route>) -> Routes {
    let guard = |route: Route| Route {
        methods: route.methods.route_layer(middleware::from_fn(address_only)),
        ..route
    };
    routes.into_iter().map(guard).collect()
}

async fn address_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.map_or(Some(""), |host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(Authority::as_str));
    if host.is_some_and(is_local) {
        return next.run(request).await;
    }
    let text = "this page answers only to an IP address or localhost, so that no other site can \
                read it; write one of them in place of the name";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// Whether the value of `Host` cannot be a name that another site owns. Browsers always send one.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return host.is_empty() };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
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
        (status = 421, description = "On the internal server: `Host` is a name other than \
         `localhost`", body = ErrorDocument),
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
        (status = 400, description = "The query cannot be used", body = ErrorDocument),
        (status = 421, description = "`Host` is a name other than `localhost`", body = ErrorDocument)
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
        (status = 421, description = "`Host` is a name other than `localhost`", body = ErrorDocument),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for local in [
            "",
            "localhost",
            "LOCALHOST:3081",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:3081",
            "10.0.0.7:3081",
            "[::1]",
            "[::1]:3081",
        ] {
            assert!(is_local(local), "{local}");
        }
        for foreign in [
            "example.com",
            "example.com:3081",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "localhostx",
            "notlocalhost",
            "a b",
            "user@example.com",
            "127.0.0.1@example.com",
            "::1",
        ] {
            assert!(!is_local(foreign), "{foreign}");
        }
    }
}
