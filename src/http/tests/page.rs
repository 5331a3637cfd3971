//! The pages over real sockets: who gets them, and what their headers allow.

use super::bed::{Answer, Api};
use crate::http::{AuthMode, Authenticator, HttpLimits};

#[tokio::test]
async fn pages_are_on_the_internal_server_only() {
    let api = Api::start();
    for (path, part) in
        [("/", ">empty</h1>"), ("/?refresh=0", ">empty</h1>"), ("/api", "id=\"getPage\"")]
    {
        let answer = Answer::of(api.client.get(api.internal(path))).await;
        assert_eq!(answer.code, 200, "{path}");
        assert!(answer.text.contains(part), "{path}: {}", answer.text);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
    }
    for path in ["/", "/api"] {
        let answer = api.get(path).await;
        assert_eq!(answer.code, 404);
        assert!(answer.error().contains("the internal server has it"), "{}", answer.text);
    }
    for query in ["refresh=3601", "refresh=-1", "refresh=x"] {
        let answer = Answer::of(api.client.get(api.internal(&format!("/?{query}")))).await;
        assert_eq!(answer.code, 400, "{query}");
    }
}

#[tokio::test]
async fn details_are_on_both_servers() {
    let api = Api::start();
    let inside = Answer::of(api.client.get(api.internal("/details"))).await;
    let outside = api.get("/details").await;
    for answer in [inside, outside] {
        assert_eq!(answer.code, 200);
        let details = answer.json();
        assert_eq!(details["status"]["status"], "empty");
        assert_eq!(details["compute_id"], "c1");
        assert_eq!(details["changes"][0]["reason"], "process started");
    }
    let without_token = Answer::of(api.client.get(api.external("/details"))).await;
    assert_eq!(without_token.code, 400);
}

/// A site whose name resolves to this machine is same-origin with what the browser gets here, and
/// any site can send a POST without reading the answer.
#[tokio::test]
async fn a_page_of_another_site_gets_and_changes_nothing_without_a_token() {
    let api = Api::start();
    let document = Answer::of(api.client.get(api.internal("/openapi.json"))).await.json();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["tags"][0] != "internal" && path != "/details" {
                continue;
            }
            let ask = |name: &str, value: &str| {
                let method = method.to_uppercase().parse().unwrap();
                let url = api.internal(&path.replace("{filename}", "anon"));
                Answer::of(api.client.request(method, url).header(name, value))
            };
            assert!(operation["responses"]["421"].is_object(), "{path}");
            let answer = ask("host", "rebound.example").await;
            assert_eq!(answer.code, 421, "{method} {path}");
            assert!(
                answer.error().contains("write one of them in place"),
                "{path}: {}",
                answer.text
            );
            for origin in ["https://a.example", "null"] {
                let answer = ask("origin", origin).await;
                assert_eq!(answer.code, 421, "{method} {path}");
            }
            let answer = ask("sec-fetch-site", "cross-site").await;
            assert_eq!(answer.code, 421, "{method} {path}");
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen}");
    let named = api.client.get(api.external("/details")).bearer_auth(&api.token);
    let answer = Answer::of(named.header("host", "compute-7.example")).await;
    assert_eq!(answer.code, 200, "a browser does not add the token");
}

/// With `--dev` and without keys, a client of this machine needs no token: a page of another site
/// would be one.
#[tokio::test]
async fn dev_lets_in_programs_and_no_pages() {
    let keys = serde_json::from_str(r#"{"keys": []}"#).unwrap();
    let dev = Authenticator::new(&keys, Some("c1".to_owned()), true, AuthMode::Verify);
    let api = Api::start_as(HttpLimits::default(), dev);
    let ask = |method: &str, path: &str, name: &'static str, value: &'static str| {
        let method = method.parse().unwrap();
        Answer::of(api.client.request(method, api.external(path)).header(name, value))
    };
    for (method, path, name, value, code) in [
        ("GET", "/status", "host", "rebound.example", 421),
        ("POST", "/terminate", "host", "rebound.example", 421),
        ("POST", "/terminate", "origin", "https://a.example", 421),
        ("GET", "/status", "origin", "https://a.example", 421),
        ("GET", "/status", "sec-fetch-site", "cross-site", 421),
        ("GET", "/status", "sec-fetch-site", "none", 200),
        ("GET", "/status", "host", "localhost:1", 200),
        // No token is needed there in any mode.
        ("GET", "/live", "host", "compute-7.example", 200),
    ] {
        assert_eq!(ask(method, path, name, value).await.code, code, "{method} {path} {name}");
    }
}
