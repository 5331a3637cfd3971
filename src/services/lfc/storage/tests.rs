use super::*;
use std::net::SocketAddr;

use axum::http::{Method, header};
use axum::response::IntoResponse as _;
use serde_json::json;
use tokio::time::timeout;

use crate::services::lfc::tests::{TENANT, TIMELINE, spec};
use crate::services::testing::{FullPort, LONG, PATIENCE, SHORT, stalling};

#[test]
fn what_is_missing_is_named_in_order() {
    let error = |members, from: Option<&str>| {
        StateObject::of(&spec(members), from).unwrap_err().to_string()
    };
    let missing = "pspec.endpoint_id missing, other endpoint_id not provided";
    assert_eq!(error(json!({}), None), missing);
    assert_eq!(error(json!({}), Some("e")), "pspec.endpoint_storage_addr missing");
    let members = json!({"endpoint_id": "e", "endpoint_storage_addr": "es:1"});
    assert_eq!(error(members, None), "pspec.endpoint_storage_token missing");
}

#[test]
fn an_endpoint_is_one_part_of_the_path() {
    let spec = spec(json!({
        "endpoint_id": "own", "endpoint_storage_addr": "es:9993",
        "endpoint_storage_token": "planted"
    }));
    let url = |from| StateObject::of(&spec, from).map(|object| object.url.to_string());
    let expected = |part: &str| format!("http://es:9993/{TENANT}/{TIMELINE}/{part}/lfc_state");
    for (from, part) in [
        (None, "own"),
        (Some("other"), "other"),
        (Some("../x"), "..%2Fx"),
        (Some("a?b=c#d"), "a%3Fb=c%23d"),
        (Some("%2e%2e"), "%252e%252e"),
        (Some("ü \\"), "%C3%BC%20%5C"),
    ] {
        assert_eq!(url(from).unwrap(), expected(part));
    }
    for from in ["", ".", ".."] {
        assert!(url(Some(from)).is_err(), "{from:?}");
    }
    assert!(!format!("{:?}", StateObject::of(&spec, None)).contains("planted"));
}

fn object(storage: SocketAddr) -> StateObject {
    let members = json!({
        "endpoint_id": "own", "endpoint_storage_addr": storage.to_string(),
        "endpoint_storage_token": "planted"
    });
    StateObject::of(&spec(members), None).unwrap()
}

/// Gets or puts the object.
async fn request(put: bool, storage: SocketAddr, limits: LfcLimits) -> anyhow::Result<()> {
    let object = object(storage);
    let tries = crate::telemetry::metrics::Metrics::new().unwrap().tries;
    if put {
        return object.put(b"state".to_vec(), &limits, &tries).await;
    }
    if let Some(response) = object.get(&limits, &tries).await? {
        body(response).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_wait_for_the_storage_ends() {
    let (get, put) = (false, true);
    let full = FullPort::open();
    let mute = stalling(b"").await;
    let half = stalling(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    let patient =
        LfcLimits { connect: LONG, idle: LONG, transfer: LONG, prewarm: LONG, stop: LONG };
    let connect = LfcLimits { connect: SHORT, ..patient };
    let idle = LfcLimits { idle: SHORT, ..patient };
    let transfer = LfcLimits { transfer: SHORT, ..patient };
    for (case, what, storage, limits) in [
        ("connect", get, full.address(), connect),
        ("connect", put, full.address(), connect),
        ("idle, no answer", get, mute, idle),
        ("idle, half an answer", get, half, idle),
        ("transfer, no answer", get, mute, transfer),
        ("transfer, half an answer", get, half, transfer),
        ("transfer, no answer", put, mute, transfer),
    ] {
        let ended = timeout(PATIENCE, request(what, storage, limits)).await;
        let error = ended.unwrap_or_else(|_| panic!("{case}, put {what}: no end")).unwrap_err();
        let cause = error.downcast_ref::<reqwest::Error>();
        assert!(cause.is_some_and(reqwest::Error::is_timeout), "{case}, put {what}: {error:#}");
    }
}

/// The target of the redirect answers 200.
#[tokio::test]
async fn a_redirect_is_not_a_success() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let storage = listener.local_addr().unwrap();
    let answer = |method: Method, uri: axum::http::Uri| async move {
        match (method, uri.path()) {
            (Method::GET, "/elsewhere") => StatusCode::OK.into_response(),
            _ => (StatusCode::SEE_OTHER, [(header::LOCATION, "/elsewhere")]).into_response(),
        }
    };
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    for (put, text) in [
        (true, "request to endpoint storage failed: 303 See Other"),
        (false, "303 See Other querying endpoint storage"),
    ] {
        let ended = timeout(PATIENCE, request(put, storage, LfcLimits::default())).await.unwrap();
        assert_eq!(ended.unwrap_err().to_string(), text);
    }
}
