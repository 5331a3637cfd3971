//! The description of the API over real sockets (03 §15).

use super::bed::{Answer, Api};

#[tokio::test]
async fn both_servers_serve_it_without_a_token() {
    let api = Api::start();
    for url in [api.external("/openapi.json"), api.internal("/openapi.json")] {
        let answer = Answer::of(api.client.get(url)).await;
        assert_eq!(answer.code, 200);
        assert_eq!(answer.json()["openapi"], "3.1.0");
        assert!(answer.json()["paths"]["/status"]["get"].is_object());
    }
}

/// Neither server has a route of the other one, and 404 and 405 come before the token check.
#[tokio::test]
async fn each_server_has_its_own_routes() {
    let api = Api::start();
    let answer = Answer::of(api.client.get(api.external("/openapi.json"))).await;
    let document = answer.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        // These are on both servers.
        if ["/openapi.json", "/details"].contains(&path.as_str()) {
            continue;
        }
        let operation = item.as_object().unwrap().values().next().unwrap();
        let is_external = operation["tags"][0] == "external";
        let (own, other) = (api.external(path), api.internal(path));
        let (own, other) = if is_external { (own, other) } else { (other, own) };
        let answer = Answer::of(api.client.get(other)).await;
        let there = if is_external { "external" } else { "internal" };
        assert_eq!(answer.code, 404, "{path}");
        let error = answer.error();
        assert!(error.contains(&format!("the {there} server has it")), "{path}: {error}");
        let answer = Answer::of(api.client.put(own)).await;
        assert_eq!(answer.code, 405, "{path}");
        assert!(answer.error().contains(answer.header("allow")), "{path}: {}", answer.text);
    }
}
