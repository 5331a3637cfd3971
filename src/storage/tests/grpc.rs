//! A pageserver that lies over gRPC.

use std::convert::Infallible;

use axum::http::{HeaderMap, HeaderName, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::super::errors::ErrorClass;
use super::super::page_api::GetBaseBackupResponseChunk;
use super::*;
use crate::spec::ComputeMode;
use crate::spec::pageserver::PageserverConnectionInfo;

type Fields = Vec<(&'static str, &'static str)>;

/// The answer to a call, as it goes over the wire.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    headers: Fields,
    messages: Vec<Vec<u8>>,
    trailers: Option<Fields>,
}

/// A message of the stream: the flag of its compression, its length, the length and bytes of a
/// chunk.
fn framed(protobuf: &[u8]) -> Vec<u8> {
    let length = u32::try_from(protobuf.len()).unwrap().to_be_bytes();
    [&[0][..], &length, protobuf].concat()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let chunk = GetBaseBackupResponseChunk { chunk: Bytes::copy_from_slice(bytes) };
    framed(&chunk.encode_to_vec())
}

fn good() -> Answer {
    let archive = archive();
    let third = archive.len().div_ceil(3);
    Answer {
        status: 200,
        headers: vec![("content-type", "application/grpc")],
        messages: archive.chunks(third).map(chunk).collect(),
        trailers: Some(vec![("grpc-status", "0")]),
    }
}

/// What is done to the answer, and words of the error.
type Lie = (&'static str, fn(&mut Answer), &'static str);

const NO_STATUS: &str = "missing grpc-status trailer";
const GZIP: &str = "not a complete gzip stream";

const LIES: [Lie; 22] = [
    ("no status at the end", |it| it.trailers = None, NO_STATUS),
    ("other trailers", |it| it.trailers = Some(vec![("x-status", "0")]), NO_STATUS),
    (
        "the status before the data",
        |it| {
            it.headers.push(("grpc-status", "0"));
            it.trailers = None;
        },
        "the answer ends without a gRPC status",
    ),
    (
        "a status that is not a number",
        |it| it.trailers = Some(vec![("grpc-status", "fine")]),
        "gRPC status Unknown",
    ),
    (
        "a bad status after the archive",
        |it| it.trailers = Some(vec![("grpc-status", "13"), ("grpc-message", "a lie")]),
        "the pageserver answers: a lie (gRPC status Internal)",
    ),
    (
        "a bad status before the archive",
        |it| it.headers.extend([("grpc-status", "14"), ("grpc-message", "a lie")]),
        "the pageserver answers: a lie (gRPC status Unavailable)",
    ),
    ("the status of a proxy", |it| (it.status, it.trailers) = (503, None), "Unavailable"),
    (
        "a page of a proxy",
        |it| {
            it.headers = vec![("content-type", "text/html")];
            it.messages = vec![b"<html><body>It works!</body></html>".to_vec()];
            it.trailers = None;
        },
        "gRPC status Internal",
    ),
    ("no data", |it| it.messages.clear(), "the archive is empty"),
    ("empty messages", |it| it.messages = vec![chunk(b""); 3], "the archive is empty"),
    ("neither data nor status", |it| (it.messages, it.trailers) = (vec![], None), NO_STATUS),
    ("the first message missing", |it| drop(it.messages.remove(0)), GZIP),
    ("one message missing", |it| drop(it.messages.remove(1)), GZIP),
    ("the last message missing", |it| drop(it.messages.pop()), GZIP),
    ("messages swapped", |it| it.messages.swap(0, 1), GZIP),
    ("a message twice", |it| it.messages.insert(1, it.messages[1].clone()), GZIP),
    ("a message that seems compressed", |it| it.messages[1][0] = 1, "gRPC status"),
    ("a flag that does not exist", |it| it.messages[1][0] = 7, "gRPC status Internal"),
    ("a message that is cut", |it| it.messages.last_mut().unwrap().truncate(9), GZIP),
    ("another field", |it| it.messages = vec![framed(b"\x12\x01a")], "the archive is empty"),
    ("a field of another type", |it| it.messages[1] = framed(b"\x08\x01"), "gRPC status Internal"),
    ("a message too large", |it| it.messages[1][1] = 1, "gRPC status OutOfRange"),
];

/// Gives the n-th connection the n-th answer, and all further ones the last.
async fn answering(all: Vec<Answer>) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut clients = tokio::task::JoinSet::new();
        for answer in all.iter().chain(std::iter::repeat(all.last().unwrap())) {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let answer = answer.clone();
            clients.spawn(async move {
                let service = hyper::service::service_fn(|request| said(request, answer.clone()));
                let server = http2::Builder::new(TokioExecutor::new());
                // The client may close it at any time.
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (port, AbortOnDropHandle::new(task))
}

type Body =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn said(
    request: axum::http::Request<Incoming>,
    answer: Answer,
) -> Result<Response<Body>, Infallible> {
    let _ = request.into_body().collect().await;
    let mut frames: Vec<_> =
        answer.messages.into_iter().map(|message| Ok(Frame::data(message.into()))).collect();
    frames.extend(answer.trailers.map(|fields| Ok(Frame::trailers(map(&fields)))));
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    *response.status_mut() = answer.status.try_into().unwrap();
    *response.headers_mut() = map(&answer.headers);
    Ok(response)
}

fn map(fields: &Fields) -> HeaderMap {
    let pairs = fields.iter().map(|(name, value)| {
        (HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
    });
    pairs.collect()
}

fn target(port: u16) -> PageserverTarget {
    let info = format!(
        r#"{{"shard_count":0,"prefer_protocol":"grpc","shards":{{
            "0000":{{"pageservers":[{{"grpc_url":"grpc://127.0.0.1:{port}"}}]}}}}}}"#
    );
    let info: PageserverConnectionInfo = serde_json::from_str(&info).unwrap();
    PageserverTarget::new(&info, None, ComputeMode::Primary).unwrap()
}

#[tokio::test]
async fn every_lie_is_noticed() {
    let mut wrong = Vec::new();
    for (name, lie, words) in LIES {
        let mut answer = good();
        lie(&mut answer);
        let (port, _server) = answering(vec![answer.clone(), answer, good()]).await;
        let (outcome, _) = fetch(&target(port), 0).await;
        match outcome {
            Err(error) if error.error.class() == ErrorClass::Transient => {
                let text = error.to_string();
                let is_clear = text.contains(words) && text.contains(&format!("127.0.0.1:{port}"));
                wrong.extend((!is_clear).then(|| format!("{name}: {text}")));
            }
            other => wrong.push(format!("{name}: {other:?}")),
        }
        let (outcome, files) = fetch(&target(port), 1).await;
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(files, good_files(), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
