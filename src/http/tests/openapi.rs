//! The description of the API beside the routes (03 §15).

use std::collections::BTreeSet;

use reqwest::Method;

use super::bed::{Answer, Api};
use crate::http::answers::{EXTERNAL, INTERNAL};
use crate::http::openapi::document;
use crate::http::routes;

/// Every route is described with its methods and its way in, and nothing else is.
#[tokio::test]
async fn the_routes_are_the_ones_that_are_described() {
    let api = Api::start();
    let mut routed = BTreeSet::new();
    let (external, internal) = (&api.external(""), &api.internal(""));
    for (paths, url, other, tag) in [
        (routes::protected(), external, internal, EXTERNAL),
        (routes::open(), external, internal, EXTERNAL),
        (routes::internal_routes(), internal, external, INTERNAL),
    ] {
        for (path, _) in paths {
            if path != "/openapi.json" {
                let answer = Answer::of(api.client.get(format!("{other}{path}"))).await;
                assert_eq!((answer.code, &*answer.text), (404, ""), "{path}");
            }
            let request = api.client.request(Method::TRACE, format!("{url}{path}"));
            let answer = Answer::of(request).await;
            assert_eq!(answer.code, 405, "{path}");
            let methods = answer.header("allow").split(',').filter(|method| *method != "HEAD");
            for method in methods {
                // Described once, although both servers have it.
                let tag = if path == "/openapi.json" { EXTERNAL } else { tag };
                routed.insert((path.replace("{*", "{"), method.to_lowercase(), tag.to_owned()));
            }
        }
    }
    let protected: Vec<_> = routes::protected().into_iter().map(|(path, _)| path).collect();
    let document = serde_json::to_value(document()).unwrap();
    let mut described = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap();
            described.insert((path.clone(), method.clone(), tag.to_owned()));
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
            let asks = operation["security"].is_array();
            assert_eq!(asks, protected.contains(&path.as_str()), "{path}");
            let responses = &operation["responses"];
            assert_eq!(responses["401"].is_object(), asks, "{path}");
            // Without a token it is about what the request names.
            let refuses = ["/extensions", "/grants"].contains(&path.as_str());
            assert_eq!(responses["403"].is_object(), asks || refuses, "{path}");
        }
    }
    assert_eq!(routed, described);
}

#[tokio::test]
async fn both_servers_serve_it_without_a_token() {
    let api = Api::start();
    for url in [api.external("/openapi.json"), api.internal("/openapi.json")] {
        let answer = Answer::of(api.client.get(url)).await;
        assert_eq!(answer.code, 200);
        assert_eq!(answer.json(), serde_json::to_value(document()).unwrap());
        assert_eq!(answer.json()["openapi"], "3.1.0");
    }
}
