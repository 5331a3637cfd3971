//! Layers around every request on both servers: request id, access log, and catching of panics
//! (03 §3.1, §3.2, 01 §20.1).
//!
//! These layers lie outside the routing, so that 404, 405 and refused tokens get them too.
//!
//! Requests without a token get here, so their data is cut in the log: the path and the request id
//! at 256 bytes, the method and the path in the span at the length that our own routes need. A
//! longer path is logged once, in the line of the arrival.

use std::any::Any;
use std::time::Instant;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;
use uuid::Uuid;

use super::error::ApiError;
use crate::duration::millis;
use crate::telemetry::shown::{shown, shown_to};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a path in the span, which is part of every log line of the request.
const LONGEST_PATH: usize = 64;

/// Bytes of a method in the span; clients may send any text as a method.
const LONGEST_METHOD: usize = 16;

/// Puts the common layers around a whole server.
pub(super) fn observed(router: Router) -> Router {
    router.layer(CatchPanicLayer::custom(panicked)).layer(middleware::from_fn(observe))
}

/// The panic and its place are in the log already; the client gets no details.
fn panicked(_panic: Box<dyn Any + Send>) -> Response {
    ApiError::internal().into_response()
}

/// The first id that the request carries; a fresh one if the request has none, or one with bytes
/// that are not visible ASCII (03 W18).
fn request_id(headers: &HeaderMap) -> (HeaderValue, String) {
    let own = headers.get(REQUEST_ID);
    if let Some((value, text)) = own.and_then(|value| Some((value, value.to_str().ok()?))) {
        return (value.clone(), text.to_owned());
    }
    let text = Uuid::new_v4().to_string();
    // A UUID is always a legal header value.
    let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    (value, text)
}

async fn observe(request: Request, next: Next) -> Response {
    let (header, id) = request_id(request.headers());
    let method = request.method().clone();
    let method = shown_to(method.as_str(), LONGEST_METHOD).to_string();
    let uri = request.uri().clone();
    let path = if uri.path().len() > LONGEST_PATH { "(long)" } else { uri.path() };
    let span = tracing::info_span!("HTTP", http.request.method = %method, url.path = %path);
    async move {
        let id = shown(&id);
        // Not the whole URI: its absolute form may carry a user and a password.
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let target = shown(target);
        tracing::info!(request_id = %id, "{method} {target}");
        let began = Instant::now();
        let mut response = next.run(request).await;
        let code = response.status().as_u16();
        let latency = millis(began.elapsed());
        tracing::info!(request_id = %id, code, latency);
        if response.status().is_server_error() {
            tracing::error!(request_id = %id, code, latency, "the request failed");
        }
        response.headers_mut().insert(REQUEST_ID, header);
        response
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt as _;

    #[test]
    fn ids_are_kept_or_made() {
        let ids = |values: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            }
            request_id(&headers).1
        };
        assert_eq!(ids(&[b"abc"]), "abc");
        assert_eq!(ids(&[b"a b/~!"]), "a b/~!");
        assert_eq!(ids(&[b"first", b"second"]), "first");
        let unusable: [&[&[u8]]; 2] = [&[], &[b"gr\xc3\xbcn"]];
        for values in unusable {
            let id = ids(values);
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4, "{id}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_with_an_id() {
        async fn broken() -> StatusCode {
            panic!("on purpose")
        }
        let router = observed(Router::new().route("/broken", get(broken)));
        let request = Request::get("/broken").header(REQUEST_ID, "abc").body(Body::empty());
        let response = router.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[REQUEST_ID], "abc");
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, r#"{"error":"internal error"}"#);
    }
}
