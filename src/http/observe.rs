//! Layers around every request on both servers: request id, access log, and catching of panics
//! (03 §3.1, §3.2, 01 §20.1).
//!
//! These layers lie outside the routing, so that 404, 405 and refused tokens get them too. They are
//! one service around the router and not layers of axum, each of which would cost every request a
//! copy of what it wraps.
//!
//! Requests without a token get here, so their data is cut in the log: the path at 256 bytes, the
//! method and the path in the span at the length that our own routes need. A longer path is logged
//! once, in the line of the arrival. Of a query it has the values of our own parameters
//! ([`shown_query`]), since a client may send its token there. A request id that is long or odd is replaced.
//!
//! The line of the answer has the level of its outcome: a mistake of a client is not an error of
//! this program. Probes and scrapes come every few seconds, and what they find out has its own
//! lines ([`crate::node::readiness`]); they are logged at debug unless the program fails.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;
use uuid::Builder;

use super::counted::Counted;
use super::error::{ApiError, ErrorText};
use super::uniform::uniform;
use super::wait::Waited;
use crate::telemetry::request::{self, shown_query};
use crate::telemetry::shown::{shown, shown_to};
use crate::telemetry::traces::{self, Incoming, Span};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of a path in the span, which is part of every log line of the request.
const LONGEST_PATH: usize = 64;

/// Bytes of a method in the span; clients may send any text as a method.
const LONGEST_METHOD: usize = 16;

/// Longest request id that is taken; a UUID has 36 bytes, a trace id with its parts has 55.
const LONGEST_ID: usize = 128;

/// Paths that are asked again and again by programs.
const PROBES: [&str; 8] =
    ["/live", "/ready", "/startup", "/metrics", "/autoscaling_metrics", "/log", "/details", "/"];

/// A whole server: its routes, and what happens around every request.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    router: Router,
    counted: Arc<Counted>,
}

impl Observed {
    /// `counted` has the metrics of the routes.
    pub(super) fn new(router: Router, counted: Counted) -> Self {
        Self { router, counted: Arc::new(counted) }
    }

    /// The answer of the router, in the one form of errors. The panic of a handler and its place
    /// are in the log already; the client gets no details.
    async fn answer(router: Router, request: Request) -> Response {
        // Each request has its own state, and locks are not poisoned.
        let answer = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
        let answer = answer.map(|Ok(answer)| answer);
        uniform(answer.unwrap_or_else(|_panic| ApiError::internal().into_response())).await
    }
}

impl Service<Request> for Observed {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { router, counted } = self.clone();
        Box::pin(async move { Ok(observe(request, router, &counted).await) })
    }
}

/// The first id that the request carries; a fresh one if the request has none, a long one, or one
/// with bytes that are not visible ASCII (03 W18). Blanks could forge fields of a log line.
fn request_id(headers: &HeaderMap) -> (HeaderValue, String) {
    let fits = |text: &&str| {
        (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let own = headers.get(REQUEST_ID);
    let own = own.and_then(|value| Some((value, value.to_str().ok().filter(fits)?)));
    if let Some((value, text)) = own {
        return (value.clone(), text.to_owned());
    }
    // Not a secret, so the system need not be asked for it.
    let text = Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string();
    // A UUID is always a legal header value.
    let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    (value, text)
}

async fn observe(request: Request, router: Router, counted: &Counted) -> Response {
    let (header, id) = request_id(request.headers());
    let metrics = counted.find(request.method(), request.uri().path());
    let method = request.method().clone();
    let method = shown_to(method.as_str(), LONGEST_METHOD).to_string();
    let uri = request.uri().clone();
    let path = if uri.path().len() > LONGEST_PATH { "(long)" } else { uri.path() };
    let span = tracing::info_span!("HTTP", http.request.method = %method, url.path = %path);
    request::tag(&span, &id);
    let is_probe = PROBES.contains(&uri.path()) && matches!(method.as_str(), "GET" | "HEAD");
    // Probes would be most of all traces.
    let traced = if is_probe { Span::default() } else { traced(&request, &id) };
    let inside = traced.inside();
    let answered = async move {
        // Not the whole URI: its absolute form may carry a user and a password.
        let query = uri.query().map(|query| format!("?{}", shown_query(query)));
        let target = format!("{}{}", uri.path(), query.unwrap_or_default());
        let target = shown(&target);
        if is_probe {
            tracing::debug!(request_id = %id, "{method} {target}");
        } else {
            tracing::info!(request_id = %id, "{method} {target}");
        }
        let began = Instant::now();
        let mut response = Observed::answer(router, request).await;
        let took = began.elapsed();
        let error = response.extensions().get::<ErrorText>().map_or("", |text| &text.0);
        traces::answered(&traced, response.status(), error);
        log_answer(&id, &response, took, is_probe);
        let waited = response.extensions().get::<Waited>().is_some();
        metrics.answered(response.status().as_u16(), (!waited).then_some(took));
        response.headers_mut().insert(REQUEST_ID, header);
        response
    };
    inside.scope(answered.instrument(span)).await
}

/// The span of a request in the traces.
fn traced(request: &Request, id: &str) -> Span {
    let (uri, headers) = (request.uri(), request.headers());
    let (method, path, query) = (request.method(), uri.path(), uri.query());
    Incoming { method, path, query, headers, request_id: id }.span()
}

/// Tells the span of the request which route it has found.
pub(super) async fn note_route(route: MatchedPath, request: Request, next: Next) -> Response {
    traces::matched(request.method(), route.as_str());
    next.run(request).await
}

/// One line, with the text if the answer is an error.
fn log_answer(id: &str, response: &Response, took: Duration, is_probe: bool) {
    let status = response.status();
    let code = status.as_u16();
    let latency = format!("{:.1}ms", took.as_secs_f64() * 1e3);
    let text = response.extensions().get::<ErrorText>().map_or("", |text| &text.0);
    // 503 is how a probe says no.
    if is_probe && (status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE) {
        tracing::debug!(request_id = %id, code, latency = %latency, "answering {code}: {text}");
    } else if status.is_server_error() {
        tracing::error!(request_id = %id, code, latency = %latency, "answering {code}: {text}");
    } else if status.is_client_error() {
        tracing::warn!(request_id = %id, code, latency = %latency, "answering {code}: {text}");
    } else {
        tracing::info!(request_id = %id, code, latency = %latency);
    }
}

/// A router of a test.
#[cfg(test)]
pub(super) fn observed(router: Router) -> Observed {
    let metrics = crate::telemetry::metrics::Metrics::new().unwrap();
    Observed::new(router, Counted::nothing(&metrics.http, "external"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use uuid::Uuid;

    #[test]
    fn ids_are_kept_or_made() {
        fn ids(values: &[&[u8]]) -> String {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            }
            request_id(&headers).1
        }
        assert_eq!(ids(&[b"abc"]), "abc");
        assert_eq!(ids(&[b"a-b/~!"]), "a-b/~!");
        let longest = "x".repeat(LONGEST_ID);
        assert_eq!(ids(&[longest.as_bytes()]), longest);
        let longer = "x".repeat(LONGEST_ID + 1);
        assert_eq!(ids(&[b"first", b"second"]), "first");
        let unusable: [&[&[u8]]; 6] =
            [&[], &[b""], &[b"gr\xc3\xbcn"], &[b"a code=200"], &[b"a\tb"], &[longer.as_bytes()]];
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
