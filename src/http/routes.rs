//! The routes of each server, and the layers around them.
//!
//! Each group of routes is one file that lists its handlers; it is added to a server here. A route
//! and its description are made from the same lines beside the handler (`utoipa::path`), so neither
//! exists without the other. A test makes the description of all routes and compares it with
//! `openapi.json`, which the servers give out.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::middleware;

use super::api::{Api, Route, Routes};
use super::auth::{self, Authenticator};
use super::counted::Counted;
use super::error::ApiError;
#[cfg(feature = "testing")]
use super::failpoints;
use super::foreign::{Hosts, guarded};
use super::observe::Observed;
#[cfg(test)]
use super::openapi;
use super::{
    catalog_changes, communicator, database, description, extension_server, hadron_liveness,
    health, lfc, lifecycle, log, log_level, metrics, page, promotion,
};
use crate::telemetry::traces;

/// Routes of the external server that ask for a token.
fn protected() -> Routes {
    let groups = [
        lifecycle::protected(),
        metrics::protected(),
        database::protected(),
        lfc::protected(),
        hadron_liveness::protected(),
        promotion::protected(),
        page::protected(),
    ];
    groups.into_iter().flatten().collect()
}

/// Routes of the external server that are open to all.
fn open() -> Routes {
    let groups = [metrics::open(), communicator::open(), health::open()];
    groups.into_iter().flatten().collect()
}

/// Routes of the internal server.
fn internal_routes() -> Routes {
    let groups = [
        lifecycle::internal(),
        catalog_changes::internal(),
        extension_server::internal(),
        log::internal(),
        log_level::internal(),
        page::internal(),
        #[cfg(feature = "testing")]
        failpoints::internal(),
    ];
    groups.into_iter().flatten().collect()
}

/// Routes of both servers, open to all.
fn shared() -> Routes {
    description::shared()
}

/// The external server. The token is checked inside the routes, so that 404 and 405 need none.
pub(super) fn external(api: Api, authenticator: Authenticator) -> Observed {
    let hosts = Hosts::of_this_machine(&api.node.params.host_names);
    let state = (Arc::new(authenticator), hosts.clone());
    let asked = middleware::from_fn_with_state(state, auth::require_token);
    let pages = if api.node.params.dev { page::internal() } else { Routes::new() };
    // Pages stay closed to other sites also where the network is trusted instead of a token.
    let pages = guarded(pages, &hosts);
    let protected = protected()
        .into_iter()
        .chain(pages)
        .map(|route| Route { methods: route.methods.route_layer(asked.clone()), ..route });
    let fallback = no_such_path("external", "internal", internal_routes());
    serving("external", protected.chain(open()).chain(shared()), api, fallback)
}

/// The internal server, for callers on this machine; it asks for no token. Other machines can reach
/// it if it is `open`.
pub(super) fn internal(api: Api, open: bool) -> Observed {
    let others = protected().into_iter().chain(self::open());
    let fallback = no_such_path("internal", "external", others);
    let hosts = Hosts::of_internal(&api.node.params.host_names, open);
    let routes = internal_routes().into_iter().chain(page::protected());
    serving("internal", guarded(routes, &hosts).into_iter().chain(shared()), api, fallback)
}

fn serving(
    server: &'static str,
    routes: impl Iterator<Item = Route>,
    api: Api,
    no_such_path: impl Fn(&Uri) -> ApiError + Clone + Send + Sync + 'static,
) -> Observed {
    let metrics = api.node.metrics.http.clone();
    let (mut router, mut counted) = (Router::new(), Counted::nothing(&metrics, server));
    for route in routes {
        counted.add(&metrics, server, &route);
        router = router.route(&route.path, route.methods);
    }
    let router = match traces::are_on() {
        true => router.route_layer(middleware::from_fn(super::observe::note_route)),
        false => router,
    };
    let fallback = async move |uri: Uri| no_such_path(&uri);
    Observed::new(router.fallback(fallback).with_state(api), counted)
}

/// The answer to a path that the server `here` does not have: the two ports are easily confused.
/// The text does not repeat the path.
fn no_such_path(
    here: &'static str,
    there: &'static str,
    others: impl IntoIterator<Item = Route>,
) -> impl Fn(&Uri) -> ApiError + Clone + Send + Sync + 'static {
    // Up to a parameter, which is the last part of a path.
    let fixed = |route: Route| match route.path.split_once('{') {
        Some((fixed, _)) => (fixed.to_owned(), true),
        None => (route.path, false),
    };
    let others: Vec<_> = others.into_iter().map(fixed).collect();
    move |uri| {
        let path = uri.path();
        let has = |(fixed, more): &(String, bool)| {
            path == fixed || *more && path.len() > fixed.len() && path.starts_with(fixed.as_str())
        };
        let text = if others.iter().any(has) {
            format!(
                "the {here} server has no such path; the {there} server has it, on another port"
            )
        } else {
            format!("the {here} server has no such path")
        };
        ApiError::new(StatusCode::NOT_FOUND, text)
    }
}

/// The description of the routes of both servers.
#[cfg(test)]
pub(super) fn document() -> utoipa::openapi::OpenApi {
    let groups = [protected(), open(), internal_routes(), shared()];
    let router = utoipa_axum::router::OpenApiRouter::with_openapi(openapi::base());
    let routes = groups.into_iter().flatten();
    let router = routes.fold(router, |router, route| router.routes((route.describe)()));
    let mut document = router.into_openapi();
    openapi::complete(&mut document);
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answers::{EXTERNAL, INTERNAL};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    /// Regenerate the file with `UPDATE_OPENAPI=1 cargo test routes`.
    #[cfg(not(feature = "testing"))]
    #[test]
    fn the_file_in_the_tree_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let text = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let in_tree = std::fs::read_to_string(path).unwrap_or_default();
        assert!(text == in_tree, "openapi.json is out of date: UPDATE_OPENAPI=1 cargo test routes");
    }

    /// The log and the traces show the values of our own parameters only.
    #[test]
    fn parameters_that_the_log_shows_are_ours() {
        let document = serde_json::to_value(document()).unwrap();
        let operations = document["paths"].as_object().unwrap().values();
        let operations = operations.flat_map(|item| item.as_object().unwrap().values());
        let all = operations.flat_map(|it| it["parameters"].as_array().into_iter().flatten());
        let queries = all.filter(|it| it["in"] == "query").map(|it| it["name"].as_str().unwrap());
        let queries: BTreeSet<_> = queries.collect();
        assert_eq!(queries, BTreeSet::from(crate::telemetry::request::PARAMETERS));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let place = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(place).is_some(), "{reference}");
                    }
                    members.values().for_each(|value| check(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = serde_json::to_value(document()).unwrap();
        check(&document, &document);
    }

    /// The description agrees with the groups on tokens and servers.
    #[test]
    fn operations_are_described_by_their_groups() {
        let mut ids = BTreeSet::new();
        for (routes, tag, asks) in [
            (protected(), EXTERNAL, true),
            (open(), EXTERNAL, false),
            (internal_routes(), INTERNAL, false),
            // Both servers have it, but it is described once.
            (shared(), EXTERNAL, false),
        ] {
            for route in routes {
                let (_, paths, _) = (route.describe)();
                let paths = serde_json::to_value(paths).unwrap();
                for (path, item) in paths.as_object().unwrap() {
                    for operation in item.as_object().unwrap().values() {
                        assert_eq!(operation["tags"], json!([tag]), "{path}");
                        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
                        assert_eq!(operation["security"].is_array(), asks, "{path}");
                        let responses = &operation["responses"];
                        assert_eq!(responses["401"].is_object(), asks, "{path}");
                        // Without a token, 403 is about an object that the request names.
                        let refuses = ["/extensions", "/grants"].contains(&path.as_str());
                        assert_eq!(responses["403"].is_object(), asks || refuses, "{path}");
                    }
                }
            }
        }
        assert!(ids.len() > 20);
    }
}
