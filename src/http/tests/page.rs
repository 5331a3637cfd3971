//! The pages over real sockets: who gets them, and what their headers allow.

use super::bed::{Answer, Api};

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

/// A site whose name resolves to this machine is same-origin with what the browser gets here.
#[tokio::test]
async fn a_foreign_name_gets_nothing_without_a_token() {
    let api = Api::start();
    for path in ["/", "/api", "/details"] {
        let request = api.client.get(api.internal(path)).header("host", "rebound.example");
        let answer = Answer::of(request).await;
        assert_eq!(answer.code, 421, "{path}");
        assert!(!answer.text.contains("empty"), "{path}: {}", answer.text);
    }
    let named = api.client.get(api.external("/details")).bearer_auth(&api.token);
    let answer = Answer::of(named.header("host", "compute-7.example")).await;
    assert_eq!(answer.code, 200, "a browser does not add the token");
}
