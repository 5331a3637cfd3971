//! One form for every error: `{"error": "<text>"}` (03 §3.4).
//!
//! Handlers of this program answer errors as [`ApiError`]. What does not come from a handler has
//! another form: 404 and 405 are empty, and the rejections of axum's extractors are plain text. The
//! layer around each server turns those into the same document, so a new route obeys by itself.
//! Headers such as `allow` are kept.
//!
//! The one exception is an answer that this program only forwards ([`Forwarded`]).

use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::error::{ApiError, ErrorText};

/// Bytes of a text that is turned into a document. axum's texts have a few hundred.
const LONGEST_TEXT: usize = 64 * 1024;

/// Extension of an answer whose form belongs to another program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forwarded;

/// The answer, as a document if it is an error.
pub(super) async fn uniform(response: Response) -> Response {
    let status = response.status();
    let extensions = response.extensions();
    let is_error = status.is_client_error() || status.is_server_error();
    let has_form =
        extensions.get::<ErrorText>().is_some() || extensions.get::<Forwarded>().is_some();
    if !is_error || has_form || content_type_is(&response, "application/json") {
        return response;
    }
    let is_text = content_type_is(&response, "text/plain");
    let (mut head, body) = response.into_parts();
    let text = if is_text { text_of(body).await } else { None };
    let text = text.unwrap_or_else(|| reason(status, &head.headers));
    for replaced in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        head.headers.remove(replaced);
    }
    let mut document = ApiError::new(status, text).into_response();
    document.headers_mut().extend(head.headers);
    document
}

fn content_type_is(response: &Response, wanted: &str) -> bool {
    let value = response.headers().get(header::CONTENT_TYPE);
    value.is_some_and(|value| value.as_bytes().starts_with(wanted.as_bytes()))
}

async fn text_of(body: Body) -> Option<String> {
    let bytes = to_bytes(body, LONGEST_TEXT).await.ok()?;
    let text = String::from_utf8(bytes.into()).ok()?;
    Some(text).filter(|text| !text.trim().is_empty())
}

fn reason(status: StatusCode, headers: &axum::http::HeaderMap) -> String {
    let allowed = headers.get(header::ALLOW).and_then(|methods| methods.to_str().ok());
    match (status, allowed) {
        (StatusCode::METHOD_NOT_ALLOWED, Some(methods)) => {
            format!("this path does not have that method, only {methods}")
        }
        _ => status.canonical_reason().unwrap_or("no reason is known").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::{Path, Query, rejection::JsonRejection};
    use axum::http::{HeaderMap, Request};
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde::Deserialize;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::http::observe::observed;

    #[derive(Debug, Deserialize)]
    struct Wanted {
        #[expect(dead_code, reason = "only its absence matters")]
        number: u32,
    }

    /// A router as a newcomer would write it, with axum's own extractors and answers.
    fn router() -> Router {
        Router::new()
            .route("/query", get(async |_: Query<Wanted>| "ok"))
            .route("/path/{number}", get(async |_: Path<u32>| "ok"))
            .route("/json", post(async |_: Json<Wanted>| "ok"))
            .route(
                "/rejected",
                post(async |json: Result<Json<Wanted>, JsonRejection>| json.map(|_| "ok")),
            )
            .route("/bare", get(async || StatusCode::IM_A_TEAPOT))
            .route("/html", get(async || (StatusCode::BAD_GATEWAY, axum::response::Html("<p>no"))))
            .route("/bytes", get(async || (StatusCode::CONFLICT, vec![0xff_u8])))
            .route("/panic", get(async || -> &str { panic!("on purpose") }))
            .route(
                "/own",
                get(async || (StatusCode::GONE, Json(serde_json::json!({"error": "x"})))),
            )
            .route("/plain", get(async || (StatusCode::OK, "as it is")))
            .route(
                "/forwarded",
                get(async || {
                    let mut response = (StatusCode::BAD_GATEWAY, "as it is").into_response();
                    response.extensions_mut().insert(Forwarded);
                    response
                }),
            )
    }

    async fn ask(method: &str, path: &str, body: &'static str) -> (u16, HeaderMap, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json").body(Body::from(body));
        let response = observed(router()).oneshot(request.unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (head.status.as_u16(), head.headers, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn every_error_of_any_route_is_a_document() {
        for (method, path, body, code, part) in [
            ("GET", "/none", "", 404, "not found"),
            ("GET", "/", "", 404, "not found"),
            ("POST", "/query", "", 405, "only GET,HEAD"),
            ("GET", "/json", "", 405, "only POST"),
            ("BREW", "/bare", "", 405, "only GET,HEAD"),
            ("GET", "/query", "", 400, "missing field `number`"),
            ("GET", "/query?number=x", "", 400, "number"),
            ("GET", "/path/x", "", 400, "u32"),
            ("GET", "/path/%ff", "", 400, "UTF-8"),
            ("POST", "/json", "{", 400, "JSON"),
            ("POST", "/json", "{}", 422, "missing field `number`"),
            ("POST", "/rejected", "{}", 422, "missing field `number`"),
            ("GET", "/bare", "", 418, "i'm a teapot"),
            ("GET", "/html", "", 502, "bad gateway"),
            ("GET", "/bytes", "", 409, "conflict"),
            ("GET", "/panic", "", 500, "internal error"),
            ("GET", "/own", "", 410, "x"),
        ] {
            let (answered, headers, text) = ask(method, path, body).await;
            assert_eq!(answered, code, "{method} {path}: {text}");
            assert_eq!(headers["content-type"], "application/json", "{method} {path}");
            assert_eq!(headers.get_all("content-type").iter().count(), 1, "{method} {path}");
            assert!(headers.contains_key("x-request-id"), "{method} {path}");
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document.as_object().unwrap().len(), 1, "{text}");
            let error = document["error"].as_str().unwrap();
            assert!(error.contains(part), "{method} {path}: {error}");
        }
        let (_, headers, _) = ask("POST", "/query", "").await;
        assert_eq!(headers["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn other_answers_stay() {
        for (path, code) in [("/plain", 200), ("/forwarded", 502)] {
            let (answered, headers, text) = ask("GET", path, "").await;
            assert_eq!((answered, text.as_str()), (code, "as it is"));
            assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        }
    }
}
