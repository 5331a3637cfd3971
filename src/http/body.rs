//! JSON bodies of our own routes (03 §3.5).
//!
//! The order of the checks is fixed: content type, size, JSON, shape. Reading is bounded in bytes,
//! in silence between two pieces, and in all.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use super::Api;
use super::error::ApiError;
use super::serve::HttpLimits;
use crate::spec::document::{self, DocumentError};

/// A body that was read, parsed and found of the right shape.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

/// Why a body cannot be used. The beginnings of the texts are those of 03 §3.5; the names of
/// members keep their case, which the original did not.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    /// Not `application/json` or `application/…+json`.
    #[error("expected request with `content-type: application/json`")]
    ContentType,
    /// Over the limit.
    #[error("failed to buffer the request body: length limit exceeded")]
    TooLarge,
    /// The client stopped sending.
    #[error("failed to buffer the request body: it did not arrive in time")]
    TooSlow,
    /// The connection broke, or the framing is wrong.
    #[error("failed to buffer the request body: {0}")]
    Interrupted(axum::Error),
    /// No JSON.
    #[error("failed to parse the request body as json: {0}")]
    Syntax(DocumentError),
    /// JSON of another shape; the path of the offending member comes first.
    #[error("failed to deserialize the json body into the target type: {0}")]
    Shape(DocumentError),
}

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(BodyError::ContentType.into());
        }
        let document = format!("the body of {} {}", request.method(), request.uri().path());
        let body = read(request.into_body(), &api.limits).await?;
        let parsed = document::parse(&body).map_err(|error| {
            if error.is_syntax() { BodyError::Syntax(error) } else { BodyError::Shape(error) }
        })?;
        document::log_unknown_members(&document, &parsed.unknown_members);
        Ok(Self(parsed.value))
    }
}

/// `application/json` or `application/<anything>+json`, with any parameters, in any case.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    let Some((kind, subtype)) = essence.trim().split_once('/') else { return false };
    let subtype = subtype.to_ascii_lowercase();
    let suffixed = subtype.strip_suffix("+json").is_some_and(|name| !name.is_empty());
    kind.eq_ignore_ascii_case("application") && (subtype == "json" || suffixed)
}

/// Reads a body to its end.
async fn read(body: Body, limits: &HttpLimits) -> Result<Bytes, BodyError> {
    timeout(limits.body_total, read_pieces(body, limits.body_bytes, limits.body_idle))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn read_pieces(body: Body, limit: usize, idle: Duration) -> Result<Bytes, BodyError> {
    use axum::body::HttpBody as _;
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(BodyError::TooLarge);
    }
    let mut pieces = body.into_data_stream();
    let mut all = BytesMut::new();
    loop {
        let piece = match timeout(idle, pieces.next()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => return Ok(all.freeze()),
            Ok(Some(piece)) => piece.map_err(BodyError::Interrupted)?,
        };
        if all.len().saturating_add(piece.len()) > limit {
            return Err(BodyError::TooLarge);
        }
        all.extend_from_slice(&piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::io;

    #[test]
    fn content_types() {
        for (value, accepted) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("application/vnd.neon+json", true),
            ("application/+json", false),
            ("application/jsonx", false),
            ("text/json", false),
            ("text/plain", false),
            ("json", false),
            ("", false),
        ] {
            let headers =
                HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_json(&headers), accepted, "{value:?}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    fn limits() -> HttpLimits {
        HttpLimits { body_bytes: 8, ..HttpLimits::default() }
    }

    #[tokio::test]
    async fn the_limit_holds_with_and_without_a_length() {
        assert_eq!(read(Body::from("12345678"), &limits()).await.unwrap(), "12345678");
        let error = read(Body::from("123456789"), &limits()).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge));
        let pieces = ["1234", "5678", "9"].map(Ok::<_, io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        assert!(matches!(read(body, &limits()).await.unwrap_err(), BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_trickle_end() {
        let body = Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>());
        assert!(matches!(read(body, &limits()).await.unwrap_err(), BodyError::TooSlow));
        let trickle = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok::<_, io::Error>(Bytes::new()), ()))
        });
        let body = Body::from_stream(Box::pin(trickle));
        assert!(matches!(read(body, &limits()).await.unwrap_err(), BodyError::TooSlow));
    }

    #[tokio::test]
    async fn a_broken_body_is_an_error() {
        let body = Body::from_stream(futures_util::stream::iter([Err::<Bytes, _>(
            io::Error::other("gone"),
        )]));
        let error = read(body, &limits()).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to buffer the request body: gone");
    }
}
