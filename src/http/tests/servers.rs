//! The answers of both servers (03 §13).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bed::{Answer, Api, good_body};
use crate::http::testing::node;
use crate::http::{AuthMode, Authenticator, HttpLimits, Servers, reserve};
use crate::server::ServerLimits;
use crate::server::testing::port_of_closed_connection;
use crate::spec::wire::Jwks;
use crate::state::{ComputeStatus, Event, TerminateMode};

/// T1, T10.
#[tokio::test]
async fn status_asks_for_a_token_and_shows_the_document() {
    let api = Api::start();
    let url = api.external("/status");
    for (authorization, code) in
        [(None, 400), (Some("Basic x"), 400), (Some("Bearer x"), 401), (Some("Bearer "), 400)]
    {
        let mut request = api.client.get(&url);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let answer = Answer::of(request).await;
        assert_eq!(answer.code, code, "{authorization:?}");
        assert!(answer.error().contains("authorization token"));
    }
    let before = api.get("/status").await;
    assert_eq!(before.code, 200);
    let document = before.json();
    assert_eq!(document["status"], "empty");
    for member in ["tenant", "timeline", "last_active", "error"] {
        assert_eq!(document[member], Value::Null);
    }

    let answer = api.configure(&good_body("")).await;
    assert_eq!(answer.code, 200, "{answer:?}");
    let after = answer.json();
    assert_eq!(after["status"], "running");
    assert_eq!(after["tenant"], "88dfefdb53d20e1b4bb1feae80e8020e");
    assert!(after["start_time"].as_str() > document["start_time"].as_str());
    assert_eq!(api.get("/status").await.json(), after);
}

/// Containers often lack IPv6.
fn loopback_hosts() -> Vec<&'static str> {
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    if has_ipv6 { vec!["127.0.0.1", "[::1]"] } else { vec!["127.0.0.1"] }
}

/// The authentication sees the address of the client.
#[tokio::test]
async fn dev_without_keys_lets_in_local_clients() {
    let authenticator =
        |dev| Authenticator::new(&Jwks::default(), Some("c1".to_owned()), dev, AuthMode::Verify);
    for (dev, code) in [(true, 200), (false, 400)] {
        let api = Api::start_as(HttpLimits::default(), authenticator(dev));
        for host in loopback_hosts() {
            let url = format!("http://{host}:{}/status", api.external_port);
            assert_eq!(Answer::of(api.client.get(url)).await.code, code);
        }
    }
}

/// T7.
#[tokio::test]
async fn figures() {
    let api = Api::start();
    let answer = Answer::of(api.client.get(api.external("/metrics"))).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    assert!(answer.text.contains(r#"compute_ctl_up{build_tag="latest",status="empty"} 1"#));

    assert_eq!(Answer::of(api.client.get(api.external("/metrics.json"))).await.code, 400);
    api.node.update_metrics(|metrics| metrics.basebackup_bytes = 7);
    let document = api.get("/metrics.json").await.json();
    assert_eq!(document.as_object().unwrap().len(), 13);
    assert_eq!(document["basebackup_bytes"], 7);
}

/// T9. Nothing changes before all checks have passed.
#[tokio::test]
async fn configure_refuses_in_the_documented_order() {
    let api = Api::start();
    let url = api.external("/configure");
    assert_eq!(Answer::of(api.client.post(&url).body("{")).await.code, 400, "token first");

    let without_type = api.client.post(&url).bearer_auth(&api.token).body("{}");
    let answer = Answer::of(without_type).await;
    assert_eq!(answer.code, 415);
    assert_eq!(answer.error(), "expected request with `content-type: application/json`");

    let mut no_roles = good_body("");
    no_roles["spec"]["cluster"].as_object_mut().unwrap().remove("roles");
    let mut wrong_type = good_body("");
    wrong_type["spec"]["cluster"]["roles"] = json!([{"name": 1}]);
    let mut no_pageserver = good_body("");
    no_pageserver["spec"].as_object_mut().unwrap().remove("pageserver_connstring");
    let syntax = "failed to parse the request body as json: ";
    let shape = "failed to deserialize the json body into the target type: ";
    for (text, code, beginning) in [
        ("{".to_owned(), 400, syntax.to_owned()),
        (String::new(), 400, syntax.to_owned()),
        (format!("{} x", good_body("")), 400, syntax.to_owned()),
        (" ".repeat(3_000_000), 400, syntax.to_owned()),
        ("{}".to_owned(), 422, format!("{shape}missing field `spec`")),
        (
            no_roles.to_string(),
            422,
            format!("{shape}spec.cluster: missing field `roles` at line 1"),
        ),
        (wrong_type.to_string(), 422, format!("{shape}spec.cluster.roles[0].name: ")),
        (
            no_pageserver.to_string(),
            400,
            "pageserver connection information should be provided".to_owned(),
        ),
    ] {
        let answer = api.configure_text("application/json; charset=utf-8", text).await;
        let error = answer.error();
        assert_eq!(answer.code, code, "{error}");
        assert!(error.starts_with(&beginning), "{error}");
    }
    assert_eq!(api.node.status(), ComputeStatus::Empty);
    assert!(api.node.spec().is_none());
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let api = Api::start_with(HttpLimits { body_bytes: 1000, ..HttpLimits::default() });
    let answer = api.configure_text("application/json", " ".repeat(1001)).await;
    assert_eq!(answer.code, 413);
    assert_eq!(answer.error(), "failed to buffer the request body: length limit exceeded");
}

/// T12: the error of a failed configuration, the state after it.
#[tokio::test]
async fn configure_answers_failures() {
    let api = Api::start();
    let answer = api.configure(&good_body("fail")).await;
    assert_eq!(answer.code, 500);
    assert_eq!(answer.error(), r#"compute configuration failed: "no \"luck\"""#);
    assert_eq!(api.get("/status").await.json()["error"], "no \"luck\"");

    let answer = api.configure(&good_body("")).await;
    assert_eq!((answer.code, answer.error()), (412, "invalid compute status: failed".to_owned()));
    // The spec is checked before the state.
    let mut bad = good_body("");
    bad["spec"]["safekeeper_connstrings"] = json!([]);
    assert_eq!(api.configure(&bad).await.code, 400);
}

/// W4: a request ends even if the driver ends without an answer.
#[tokio::test]
async fn configure_and_terminate_end_with_the_driver() {
    let api = Api::start();
    let answer = api.configure(&good_body("stop")).await;
    assert_eq!(answer.code, 500);
    assert!(answer.error().contains("the compute is ending"), "{}", answer.error());
    api.node.apply(Event::Succeeded).unwrap();
    let answer = api.post("/terminate").await;
    assert_eq!(answer.code, 500, "{answer:?}");
}

/// T25, W5.
#[tokio::test]
async fn terminate_once_and_again() {
    for (query, configured) in
        [("", true), ("?mode=immediate", true), ("?mode=fast&x=1", true), ("", false)]
    {
        let api = Api::start();
        if configured {
            assert_eq!(api.configure(&good_body("")).await.code, 200);
        }
        let answer = api.post(&format!("/terminate{query}")).await;
        assert_eq!(answer.code, 200, "{answer:?}");
        assert_eq!(answer.json(), json!({"lsn": "0/1F30EC8"}));
        assert_eq!(api.get("/status").await.json()["status"], "terminated");
        let again = api.post("/terminate?mode=immediate").await;
        assert_eq!((again.code, again.json()), (201, answer.json()));
        assert_eq!(api.configure(&good_body("")).await.code, 412);
    }
}

/// A second request while the first is pending.
#[tokio::test]
async fn terminate_while_ending() {
    let api = Api::start();
    api.node.apply(Event::Terminate(TerminateMode::Fast)).unwrap();
    let answer = api.post("/terminate").await;
    assert_eq!(answer.code, 412);
    assert_eq!(answer.error(), "invalid compute status: termination-pending-fast");
}

/// T24 and the table of §6.4.
#[tokio::test]
async fn refresh_configuration_by_state() {
    let api = Api::start();
    let assert_refused = async |name: &str| {
        let answer = api.refresh().await;
        assert_eq!(answer.code, 500);
        let text = format!("Cannot refresh compute configuration in state {name}");
        assert_eq!(answer.error(), text);
    };
    assert_refused("Empty").await;
    api.configure(&good_body("")).await;
    for _ in 0..2 {
        let answer = api.refresh().await;
        assert_eq!((answer.code, answer.text.as_str()), (200, ""));
        assert_eq!(api.node.status(), ComputeStatus::RefreshConfigurationPending);
    }
    let answer = api.configure(&good_body("")).await;
    assert_eq!(answer.error(), "invalid compute status: refresh-configuration-pending");
    api.node.apply(Event::BeginRefresh).unwrap();
    assert_refused("RefreshConfiguration").await;
    api.node.apply(Event::Signal).unwrap();
    assert_refused("TerminationPendingImmediate").await;
}

/// Both loopback addresses reach the internal server, both families the external one.
#[tokio::test]
async fn both_families_are_served() {
    let api = Api::start();
    for host in loopback_hosts().into_iter().chain(["localhost"]) {
        for (port, path) in [(api.external_port, "/metrics"), (api.internal_port, "/nope")] {
            let answer = Answer::of(api.client.get(format!("http://{host}:{port}{path}"))).await;
            assert!([200, 404].contains(&answer.code));
        }
    }
}

/// The server closes a silent connection, which makes room for the next client.
#[tokio::test]
async fn silent_clients_do_not_hold_the_server() {
    let header_read = Duration::from_millis(50);
    let limits = ServerLimits { connections: 1, header_read, ..ServerLimits::default() };
    let api = Api::start_within(limits);
    let mut silent = TcpStream::connect(("127.0.0.1", api.external_port)).await.unwrap();
    silent.write_all(b"GET /metrics HT").await.unwrap();
    let answer = Answer::of(api.client.get(api.external("/metrics"))).await;
    assert_eq!(answer.code, 200);
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn oversized_headers_are_refused() {
    let api = Api::start();
    let long = "a".repeat(70_000);
    let head = format!("GET /metrics HTTP/1.1\r\nconnection: close\r\nx: {long}\r\n\r\n");
    let answer = api.raw(&head).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

/// Shutdown closes idle connections, lets a request in progress get its answer, and cuts one that
/// never ends.
#[tokio::test]
async fn shutdown_is_bounded() {
    let api = Api::start();
    let url = api.external("/metrics");
    assert_eq!(Answer::of(api.client.get(&url)).await.code, 200);
    let mut stuck = TcpStream::connect(("127.0.0.1", api.external_port)).await.unwrap();
    let head = format!(
        "POST /configure HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 10\r\n\r\n",
        api.token
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    api.servers.shutdown(Duration::from_millis(50)).await;
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(api.client.get(&url).send().await.is_err());
}

/// A port that another program also reserved, and opened first, gives the error of a taken port.
#[tokio::test]
async fn a_port_reserved_twice_opens_once() {
    let port = port_of_closed_connection();
    let first = reserve((port, &[]), (0, None)).unwrap();
    let Ok(second) = reserve((port, &[]), (0, None)) else { return };
    let start = |reserved| {
        let keys = Authenticator::new(&Jwks::default(), None, false, AuthMode::Verify);
        Servers::start(reserved, None, node().0, keys, HttpLimits::default())
    };
    let _listening = start(first).unwrap();
    let text = start(second).unwrap_err().to_string();
    assert!(text.contains(&format!("external HTTP server cannot use port {port}")), "{text}");
    assert!(text.contains("--external-http-port"), "{text}");
}
