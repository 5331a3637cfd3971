use super::*;
use std::net::SocketAddr;

use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::services::testing::{PATIENCE, SHORT};

pub(super) const TENANT: &str = "f9ddaa608f8785cbabc1fd5fd652b865";
pub(super) const TIMELINE: &str = "0d5fa912d882faf89d456adb9d001240";

/// A spec with these members.
pub(super) fn spec(members: Value) -> ParsedSpec {
    let mut spec = json!({
        "format_version": 1.0, "suspend_timeout_seconds": -1,
        "cluster": {"roles": [], "databases": []},
        "tenant_id": TENANT.to_uppercase(), "timeline_id": TIMELINE,
        "pageserver_connstring": "postgres://no_user@127.0.0.1:6400",
        "safekeeper_connstrings": ["a:1"]
    });
    let members = members.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(members);
    serde_json::from_value::<crate::spec::ComputeSpec>(spec).unwrap().try_into().unwrap()
}

/// A storage that has a state.
async fn storage() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = zstd::stream::encode_all(b"state".as_slice(), 3).unwrap();
    let app = axum::Router::new().fallback(|| async { state.into_response() });
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A Postgres that accepts every client, reports the schema as valid, and then stalls.
async fn silent_postgres() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut sessions = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let (Ok(length), Ok(code)) = (client.read_i32().await, client.read_i32().await) else {
                continue;
            };
            // The startup message of a session, not a cancel request.
            if code == 3 << 16 {
                let welcome = b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I";
                client.read_exact(&mut vec![0; length as usize - 8]).await.unwrap();
                client.write_all(welcome).await.unwrap();
                // The check of the schema is a simple query.
                assert_eq!(client.read_u8().await.unwrap(), b'Q');
                let length = client.read_i32().await.unwrap();
                client.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
                client.write_all(b"C\0\0\0\x07DO\0Z\0\0\0\x05I").await.unwrap();
                sessions.push(client);
            }
        }
    });
    address
}

#[tokio::test]
async fn a_prewarm_that_takes_too_long_has_failed() {
    let spec = spec(json!({
        "endpoint_id": "own", "endpoint_storage_addr": storage().await.to_string(),
        "endpoint_storage_token": "planted"
    }));
    let connstr = format!("postgresql://u@{}/d", silent_postgres().await).parse().unwrap();
    let limits = LfcLimits { prewarm: SHORT, stop: SHORT, ..LfcLimits::default() };
    let (metrics, background) = (Metrics::new().unwrap(), Background::default());
    let deadlines = SessionDeadlines::default();
    let lfc = Lfc::new(connstr, PgVersion::V17, deadlines, limits, &metrics, &background);
    lfc.start_prewarm(Arc::new(spec), None).unwrap();
    let ended = async {
        while lfc.prewarm_state() == PrewarmState::Prewarming {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("an end");
    let state = lfc.prewarm_state();
    let text = format!("loading LFC state into postgres: Postgres did not answer within {SHORT:?}");
    assert_eq!(state, PrewarmState::Failed { error: text });
    assert!(!state.is_settled(), "no reason to offload");
}
