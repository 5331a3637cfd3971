//! JSON bodies of our own routes (03 §3.5).
//!
//! The order of the checks is fixed: content type, size, JSON, shape. Limits apply to the bytes of
//! a body, the silence between two pieces, and the total time. The memory comes from the budget of
//! the server ([`super::budget`]) as pieces arrive, and is given back when the request ends; the
//! first [`FREE`] bytes of each body are free, so that ordinary requests are served while others
//! stall. While the server reads a body, it may drop the connection to make room for another one.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use super::api::Api;
use super::budget::{Bytes, Held};
use super::error::ApiError;
use super::limits::HttpLimits;
use crate::errors::one_line;
use crate::server::Seat;
use crate::spec::document::{self, DocumentError};

/// Bytes of each body that the budget does not count: the number of connections bounds them.
const FREE: usize = 8 * 1024;

/// A body that was read, parsed and found to have the right shape.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

/// Why a body cannot be used. The texts begin as 03 §3.5 prescribes; unlike in the original, the
/// names of members keep their case.
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
    /// The bodies in progress have used up the budget of the server.
    #[error(
        "failed to buffer the request body: the requests in progress have taken the {0} bytes \
         that there are for bodies; send it again later"
    )]
    NoRoom(usize),
    /// The connection broke, or the framing is wrong.
    #[error("failed to buffer the request body: {}", one_line(.0))]
    Interrupted(axum::Error),
    /// Not JSON.
    #[error("failed to parse the request body as json: {0}")]
    Syntax(DocumentError),
    /// JSON of another shape; the path of the offending member comes first.
    #[error("failed to deserialize the json body into the target type: {0}")]
    Shape(DocumentError),
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyError::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
            BodyError::Interrupted(_) | BodyError::Syntax(_) => StatusCode::BAD_REQUEST,
            BodyError::Shape(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(BodyError::ContentType.into());
        }
        let document = format!("the body of {} {}", request.method(), request.uri().path());
        let seat = request.extensions().get::<Seat>().cloned();
        let reading = read(request.into_body(), &api.limits, &api.bodies);
        let (body, held) = match &seat {
            Some(seat) => seat.waits_for_body(reading).await?,
            None => reading.await?,
        };
        if let Some(seat) = seat {
            seat.keep(held);
        }
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
async fn read(
    body: Body,
    limits: &HttpLimits,
    budget: &Bytes,
) -> Result<(Vec<u8>, Held), BodyError> {
    timeout(limits.body_total, read_pieces(body, limits.body_bytes, limits.body_idle, budget))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn read_pieces(
    body: Body,
    limit: usize,
    idle: Duration,
    budget: &Bytes,
) -> Result<(Vec<u8>, Held), BodyError> {
    use axum::body::HttpBody as _;
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(BodyError::TooLarge);
    }
    let mut pieces = body.into_data_stream();
    let (mut all, mut held) = (Vec::new(), Held::default());
    loop {
        let piece = match timeout(idle, pieces.next()).await {
            Err(_) => return Err(BodyError::TooSlow),
            Ok(None) => return Ok((all, held)),
            Ok(Some(piece)) => piece.map_err(BodyError::Interrupted)?,
        };
        if all.len().saturating_add(piece.len()) > limit {
            return Err(BodyError::TooLarge);
        }
        make_room(&mut all, piece.len(), limit, budget, &mut held)?;
        all.extend_from_slice(&piece);
    }
}

/// Grows a body for the next piece: to twice its size if the budget allows it, so that bytes are
/// moved seldom, else by the size of the piece. The budget counts the capacity, not the length.
fn make_room(
    all: &mut Vec<u8>,
    piece: usize,
    limit: usize,
    budget: &Bytes,
    held: &mut Held,
) -> Result<(), BodyError> {
    let (length, capacity) = (all.len(), all.capacity());
    let needed = length.saturating_add(piece);
    if needed <= capacity {
        return Ok(());
    }
    let paid = capacity.saturating_sub(FREE);
    let twice = capacity.saturating_mul(2).min(limit).max(needed);
    for wanted in [twice, needed] {
        if budget.take(wanted.saturating_sub(FREE).saturating_sub(paid), held) {
            all.reserve_exact(wanted.saturating_sub(length));
            return Ok(());
        }
    }
    Err(BodyError::NoRoom(budget.in_all()))
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

    async fn read(body: Body, limits: &HttpLimits) -> Result<Vec<u8>, BodyError> {
        super::read(body, limits, &Bytes::new(0)).await.map(|(body, _)| body)
    }

    /// Announced bytes cost nothing, received bytes count until the body is dropped, and a small
    /// body always has room.
    #[tokio::test]
    async fn the_budget_is_for_what_has_arrived() {
        let budget = Bytes::new(3 * FREE);
        let limits = HttpLimits::default();
        let read = async |bytes: usize| {
            let body = Body::from(vec![b'x'; bytes]);
            super::read(body, &limits, &budget).await
        };
        let (first, held) = read(3 * FREE).await.unwrap();
        assert_eq!(first.len(), 3 * FREE);
        assert!(budget.take(FREE, &mut Held::default()), "two of three are taken");
        let (small, _) = read(FREE).await.unwrap();
        assert_eq!(small.len(), FREE);
        let error = read(3 * FREE).await.unwrap_err();
        assert!(matches!(error, BodyError::NoRoom(in_all) if in_all == 3 * FREE), "{error}");
        assert_eq!(ApiError::from(error).parts().0, 503);
        drop(held);
        let pieces = (0..8).map(|_| Ok::<_, io::Error>(vec![b'x'; FREE / 2]));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let (_, held) = super::read(body, &limits, &budget).await.unwrap();
        drop(held);
        assert!(budget.take(3 * FREE, &mut Held::default()), "all is back");
    }

    #[tokio::test]
    async fn the_limit_holds_with_and_without_a_length() {
        assert_eq!(read(Body::from("12345678"), &limits()).await.unwrap(), b"12345678");
        let error = read(Body::from("123456789"), &limits()).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge));
        let pieces = ["1234", "5678", "9"].map(Ok::<_, io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        assert!(matches!(read(body, &limits()).await.unwrap_err(), BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_trickle_end() {
        let body = Body::from_stream(futures_util::stream::pending::<io::Result<bytes::Bytes>>());
        assert!(matches!(read(body, &limits()).await.unwrap_err(), BodyError::TooSlow));
        let trickle = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok::<_, io::Error>(bytes::Bytes::new()), ()))
        });
        let body = Body::from_stream(Box::pin(trickle));
        assert!(matches!(read(body, &limits()).await.unwrap_err(), BodyError::TooSlow));
    }

    #[tokio::test]
    async fn a_broken_body_is_an_error() {
        let body = Body::from_stream(futures_util::stream::iter([Err::<bytes::Bytes, _>(
            io::Error::other("gone"),
        )]));
        let error = read(body, &limits()).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to buffer the request body: gone");
    }
}
