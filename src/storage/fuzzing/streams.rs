//! What pageservers send while they stream an archive.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message as _;
use tonic::codec::Codec as _;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::grpc::{MAX_MESSAGE, PIECE, next_piece, point_in_time};
use super::super::libpq::{LibpqConnection, READ_SIZE};
use super::super::page_api::{GetBaseBackupResponseChunk, LeaseLsnResponse};
use crate::fuzzing::{Server, pieces, seeded};

const LIMIT: Duration = Duration::from_secs(60);

/// The archive, and whether it is complete or why not.
type Streamed = (Vec<u8>, Result<(), String>);

fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Messages of a server after the command give the same archive, in whatever pieces they come.
pub(crate) fn libpq_messages(data: &[u8]) {
    let (seed, data) = seeded(data);
    let (expected, is_complete) = copied(data);
    let whole = run(over_libpq(vec![data]));
    assert_eq!(whole.1.is_ok(), is_complete);
    let others = [pieces(data, 50, seed), data.chunks(1).collect()];
    let others = others.map(|pieces| run(over_libpq(pieces)));
    for (archive, end) in others.iter().chain([&whole]) {
        assert_eq!(*end, whole.1);
        // How much is handed on before an error depends on the pieces.
        assert!(expected.starts_with(archive));
        assert!(end.is_err() || *archive == expected);
    }
}

async fn over_libpq(pieces: Vec<&[u8]>) -> Streamed {
    let mut connection = LibpqConnection::over(Server::sending(pieces));
    let mut archive = Vec::new();
    let end = async {
        connection.start_copy("basebackup").await?;
        while let Some(chunk) = connection.next_chunk(LIMIT).await? {
            assert!(!chunk.is_empty() && chunk.len() <= READ_SIZE);
            archive.extend_from_slice(&chunk);
        }
        Ok::<(), super::super::errors::FetchError>(())
    };
    let end = end.await.map_err(|error| error.to_string());
    (archive, end)
}

/// The data of all messages of a COPY, and whether it was ended as it should be.
fn copied(data: &[u8]) -> (Vec<u8>, bool) {
    let (mut rest, mut archive, mut begun, mut done) = (data, Vec::new(), false, false);
    while let Some((&[tag, a, b, c, d], after)) = rest.split_first_chunk::<5>() {
        let Some(length) = i32::from_be_bytes([a, b, c, d]).checked_sub(4) else { break };
        let Ok(length) = usize::try_from(length) else { break };
        if tag == b'd' && begun && !done {
            archive.extend_from_slice(&after[..length.min(after.len())]);
        }
        if length > after.len() {
            break;
        }
        rest = &after[length..];
        match (tag, begun, done) {
            (b'N' | b'S', ..) => {}
            (b'H', false, _) => begun = true,
            (b'd', true, false) => {}
            (b'c', true, false) if length == 0 => done = true,
            (b'C', true, true) => return (archive, true),
            _ => break,
        }
    }
    (archive, false)
}

/// The body of an answer gives the same archive, in whatever pieces it comes; a lease ends at a
/// point in time.
pub(crate) fn grpc_frames(data: &[u8]) {
    let (seed, data) = seeded(data);
    let good = seed % 2 == 0;
    let whole = run(over_grpc(vec![data], good));
    assert_eq!(run(over_grpc(pieces(data, 50, seed), good)), whole);
    assert_eq!(run(over_grpc(data.chunks(1).collect(), good)), whole);
    assert!(whole.0.len() <= data.len());
    if let Ok(LeaseLsnResponse { expires: Some(time) }) = LeaseLsnResponse::decode(data)
        && let Some(point) = point_in_time(time)
    {
        let since = point.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(i64::try_from(since.as_secs()), Ok(time.seconds));
        assert_eq!(i32::try_from(since.subsec_nanos()), Ok(time.nanos));
    }
}

async fn over_grpc(pieces: Vec<&[u8]>, good: bool) -> Streamed {
    let mut trailers = MetadataMap::new();
    trailers.insert("grpc-status", if good { "0" } else { "13" }.parse().unwrap());
    let data = pieces.into_iter().map(|piece| Frame::data(Bytes::copy_from_slice(piece)));
    let frames: Vec<_> = data.chain([Frame::trailers(trailers.into_headers())]).collect();
    let body = StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok::<_, Status>)));
    let decoder = ProstCodec::<(), GetBaseBackupResponseChunk>::default().decoder();
    let status = axum::http::StatusCode::OK;
    let mut messages = Streaming::new_response(decoder, body, status, None, Some(MAX_MESSAGE));
    let (mut archive, mut rest) = (Vec::new(), Bytes::new());
    loop {
        match next_piece(&mut messages, &mut rest, LIMIT).await {
            Ok(Some(piece)) => {
                assert!(!piece.is_empty() && piece.len() <= PIECE);
                archive.extend_from_slice(&piece);
            }
            Ok(None) => return (archive, Ok(())),
            Err(error) => return (archive, Err(error.to_string())),
        }
    }
}
