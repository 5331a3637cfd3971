//! Every error is `{"error": "<text>"}`, on every path of both servers (03 §3.4).

use serde_json::{Value, json};

use super::bed::{Answer, Api};
use crate::state::ComputeStatus;

/// T5, and §3.4: neither 404 nor 405 asks for a token.
#[tokio::test]
async fn unknown_paths_and_methods() {
    let api = Api::start();
    for url in [
        api.external("/nope"),
        api.external("/status/"),
        api.external("/Status"),
        api.external("/"),
        api.external("/refresh_configuration"),
        api.internal("/status"),
        api.internal("/metrics"),
    ] {
        let answer = Answer::of(api.client.post(&url)).await;
        assert_eq!(answer.code, 404, "{url}");
        assert!(answer.error().contains("server has no such path"), "{url}: {}", answer.text);
        assert_eq!(answer.header("x-request-id").len(), 36);
    }
    for (method, url, allow) in [
        ("POST", api.external("/status"), "GET,HEAD"),
        ("OPTIONS", api.external("/metrics"), "GET,HEAD"),
        ("GET", api.external("/configure"), "POST"),
        ("DELETE", api.external("/terminate"), "POST"),
        ("GET", api.internal("/refresh_configuration"), "POST"),
    ] {
        let answer = Answer::of(api.client.request(method.parse().unwrap(), &url)).await;
        assert_eq!(answer.code, 405, "{method} {url}");
        assert!(answer.error().contains(&format!("only {allow}")), "{url}: {}", answer.text);
        assert_eq!(answer.header("allow"), allow, "{method} {url}");
        assert_eq!(answer.header("x-request-id").len(), 36);
    }
    let head = Answer::of(api.client.head(api.external("/status")).bearer_auth(&api.token)).await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
}

/// T6.
#[tokio::test]
async fn request_ids_come_back_on_every_answer() {
    let api = Api::start();
    for path in ["/metrics", "/status", "/nope", "/configure"] {
        let request = api.client.get(api.external(path)).header("x-request-id", "abc");
        assert_eq!(Answer::of(request).await.header("x-request-id"), "abc", "{path}");
    }
}

/// T25: the query is checked before the state, with the documented texts.
#[tokio::test]
async fn terminate_query() {
    let api = Api::start();
    let unknown = "mode: unknown variant `slow`, expected `fast` or `immediate`";
    for (query, text) in [
        ("?", "missing field `mode`"),
        ("?a=b", "missing field `mode`"),
        ("?mode=slow", unknown),
        ("?mode=Fast", "mode: unknown variant `Fast`, expected `fast` or `immediate`"),
        ("?mode=fast&mode=fast", "duplicate field `mode`"),
    ] {
        // The client drops a lone question mark.
        let answer = raw_terminate(&api, query).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query}: {answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let error = format!("Failed to deserialize query string: {text}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body, json!({"error": error}), "{query}");
    }
    assert_eq!(api.node.status(), ComputeStatus::Empty);
}

async fn raw_terminate(api: &Api, query: &str) -> String {
    let head = format!("authorization: Bearer {}\r\nconnection: close\r\n", api.token);
    api.raw(&format!("POST /terminate{query} HTTP/1.1\r\nhost: x\r\n{head}\r\n")).await
}

/// The paths of one server from its own description, without the parameters.
async fn paths(api: &Api, tag: &str) -> Vec<(String, Vec<String>)> {
    let document = Answer::of(api.client.get(api.external("/openapi.json"))).await.json();
    let paths = document["paths"].as_object().unwrap().iter();
    let of_server = paths.filter(|(_, item)| {
        item.as_object().unwrap().values().any(|operation| operation["tags"][0] == tag)
    });
    let named = of_server.map(|(path, item)| {
        let methods = item.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
        (path.clone(), methods)
    });
    named.collect()
}

/// Every path × every method × every kind of bad query and body, with and without a token.
#[tokio::test]
async fn every_error_on_every_path_is_a_document() {
    const METHODS: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];
    // Each is wrong for every route that reads a query.
    const QUERIES: [&str; 3] = [
        "?mode=slow&wait=up&is_library=2",
        "?mode&mode&wait&wait&is_library&is_library&database&database&from_endpoint&from_endpoint",
        "?%ff=%ff&timeout=x&database=%ff",
    ];
    let bodies = [("application/json", "{"), ("application/json", "{}"), ("text/plain", "{}")];
    let mut seen = 0;
    for tag in ["external", "internal"] {
        let known = paths(&Api::start(), tag).await;
        assert!(known.len() > 3, "{known:?}");
        for (path, own) in known {
            let api = Api::start();
            let path =
                path.split_once('{').map_or(path.clone(), |(fixed, _)| format!("{fixed}%ff"));
            let url = if tag == "external" { api.external(&path) } else { api.internal(&path) };
            for method in METHODS {
                let asked = |query: &str, body: Option<(&'static str, &'static str)>, token| {
                    let method = method.parse().unwrap();
                    let mut request = api.client.request(method, format!("{url}{query}"));
                    if token {
                        request = request.bearer_auth(&api.token);
                    }
                    match body {
                        Some((kind, text)) => request.header("content-type", kind).body(text),
                        None => request,
                    }
                };
                let mut requests = vec![asked("", None, false)];
                for query in QUERIES {
                    for body in bodies {
                        requests.push(asked(query, Some(body), true));
                    }
                    requests.push(asked(query, None, true));
                }
                for request in requests {
                    let shown = format!("{request:?}");
                    let answer = Answer::of(request).await;
                    let code = answer.code;
                    let is_own = own.iter().any(|own| own == method)
                        || method == "HEAD" && own.iter().any(|own| own == "GET");
                    assert_eq!(code == 405, !is_own, "{code} {shown}");
                    if code < 400 {
                        continue;
                    }
                    seen += 1;
                    assert_eq!(answer.header("content-type"), "application/json", "{code} {shown}");
                    if code == 405 {
                        assert!(!answer.header("allow").is_empty(), "{shown}");
                    }
                    if method != "HEAD" {
                        assert!(!answer.error().is_empty(), "{code} {shown}");
                    }
                }
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}
