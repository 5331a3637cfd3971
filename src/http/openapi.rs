//! The description of both servers (03 §15), made from the handlers and served by both without a
//! token: it says nothing that the sources do not.
//!
//! Each handler carries its own part; here they are put together. The tests compare the result
//! with the routes and with `openapi.json` in the tree, so neither can be forgotten.

use std::sync::OnceLock;

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use super::error::{ApiError, ErrorDocument};
use super::{
    Routes, catalog_changes, communicator, database, extension_server, hadron_liveness, health,
    lfc, lifecycle, metrics, promotion,
};
use crate::spec::{Lsn, TenantId, TimelineId};
use crate::state::TerminateMode;

/// Tag of the operations of the external server.
pub(super) const EXTERNAL: &str = "external";
/// Tag of the operations of the internal server.
pub(super) const INTERNAL: &str = "internal";
/// Where the internal server is, with its usual port.
pub(super) const INTERNAL_URL: &str = "http://localhost:3081";

/// Routes of both servers, open to all.
pub(super) fn open() -> Routes {
    vec![("/openapi.json", get(openapi))]
}

/// Answers of every route that asks for a token (03 §4).
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "describes what `auth` answers")]
pub(super) enum TokenErrors {
    /// There is no token, or a request that is malformed otherwise.
    #[response(status = 400)]
    Malformed(ErrorDocument),
    /// The token cannot be verified.
    #[response(status = 401)]
    Unverified(ErrorDocument),
    /// The token is for another compute.
    #[response(status = 403)]
    Forbidden(ErrorDocument),
}

/// Answers of every route that reads a JSON body (03 §3.5).
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "describes what `body` answers")]
pub(super) enum BodyErrors {
    /// The request is no JSON, or something in it cannot be used.
    #[response(status = 400)]
    Unusable(ErrorDocument),
    /// The body did not arrive in time.
    #[response(status = 408)]
    TooSlow(ErrorDocument),
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(ErrorDocument),
    /// The type of the body is not JSON.
    #[response(status = 415)]
    ContentType(ErrorDocument),
    /// The body is JSON of another shape.
    #[response(status = 422)]
    Shape(ErrorDocument),
    /// The bodies of the requests in progress take all the memory that there is for them.
    #[response(status = 503)]
    NoRoom(ErrorDocument),
}

/// Answers of every route that depends on the state and then does something.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "describes what the node and Postgres answer")]
pub(super) enum StateErrors {
    /// Not in the present state.
    #[response(status = 412)]
    WrongState(ErrorDocument),
    /// It was tried and has failed.
    #[response(status = 500)]
    Failed(ErrorDocument),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Compute node control API",
        version = "1.0",
        description = "Two servers of one process: the external one for the control plane, \
                       the internal one for programs on the same machine.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "http://localhost:3080", description = "The external server")),
    tags(
        (name = EXTERNAL, description = "On the external server"),
        (name = INTERNAL, description = "On the internal server, without a token")
    ),
    paths(
        communicator::autoscaling_metrics,
        database::check_writability,
        database::database_schema,
        database::dbs_and_roles,
        database::get_insights,
        extension_server::fetch_extension,
        lfc::cancel_prewarm,
        lfc::offload_state,
        lfc::prewarm_state,
        lfc::start_offload,
        lfc::start_prewarm,
        lifecycle::configure,
        lifecycle::refresh_configuration,
        lifecycle::status,
        lifecycle::terminate,
        metrics::metrics,
        metrics::startup_metrics,
        catalog_changes::grant,
        catalog_changes::install,
        openapi,
        hadron_liveness::liveness_probe,
        health::live,
        health::ready,
        promotion::promote,
    ),
    components(schemas(TerminateMode)),
    modifiers(&Common)
)]
struct Api;

#[cfg(feature = "testing")]
#[derive(OpenApi)]
#[openapi(paths(super::failpoints::configure))]
struct TestingApi;

/// The whole description.
fn document() -> Document {
    #[cfg(feature = "testing")]
    return Api::openapi().merge_from(TestingApi::openapi());
    #[cfg(not(feature = "testing"))]
    Api::openapi()
}

#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getOpenApi",
    tag = EXTERNAL,
    servers((url = "http://localhost:3080"), (url = INTERNAL_URL)),
    summary = "This description",
    responses(
        (status = 200, description = "The same on both servers", body = Object),
        (status = 500, description = "Should not happen", body = ErrorDocument)
    )
)]
async fn openapi() -> Result<impl IntoResponse, ApiError> {
    // Made once: it is large, and anybody may ask for it.
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = match TEXT.get() {
        Some(text) => text,
        None => {
            let text = document().to_json().map_err(|error| {
                tracing::error!("could not write the description of the API: {error}");
                ApiError::internal()
            })?;
            TEXT.get_or_init(|| text.into())
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text.clone()))
}

/// What all operations have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("JWT", SecurityScheme::Http(scheme.build()));
        let request_id = HeaderBuilder::new()
            .schema(Some(String::schema()))
            .description(Some("The one of the request, or a fresh one"))
            .build();
        components.headers.insert("RequestId".to_owned(), RefOr::T(request_id));
        let operations = document.paths.paths.values_mut().flat_map(operations);
        for operation in operations {
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    let request_id = Ref::new("#/components/headers/RequestId");
                    response.headers.insert("x-request-id".to_owned(), RefOr::Ref(request_id));
                }
            }
        }
    }
}

/// The methods that our routes have.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [item.get.as_mut(), item.post.as_mut(), item.delete.as_mut()].into_iter().flatten()
}

/// A string with a pattern.
fn text(pattern: &str, description: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    object.description(Some(description)).into()
}

impl PartialSchema for TenantId {
    fn schema() -> RefOr<Schema> {
        text("^[0-9a-fA-F]{32}$", "Id of a tenant.")
    }
}

impl ToSchema for TenantId {}

impl PartialSchema for TimelineId {
    fn schema() -> RefOr<Schema> {
        text("^[0-9a-fA-F]{32}$", "Id of a timeline.")
    }
}

impl ToSchema for TimelineId {}

impl PartialSchema for Lsn {
    fn schema() -> RefOr<Schema> {
        text("^[0-9a-fA-F]{1,8}/[0-9a-fA-F]{1,8}$", "A position in the WAL.")
    }
}

impl ToSchema for Lsn {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Written anew by `UPDATE_OPENAPI=1 cargo test openapi`.
    #[cfg(not(feature = "testing"))]
    #[test]
    fn the_file_in_the_tree_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let text = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let in_tree = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            text == in_tree,
            "openapi.json is out of date: UPDATE_OPENAPI=1 cargo test openapi"
        );
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

    /// Every route is described with its methods and its way in, and nothing else is.
    #[tokio::test]
    async fn the_routes_are_the_ones_that_are_described() {
        use crate::http::testing::{Answer, Api};
        use reqwest::Method;
        use std::collections::BTreeSet;

        let api = Api::start();
        let mut routes = BTreeSet::new();
        let (external, internal) = (&api.external(""), &api.internal(""));
        for (paths, url, other, tag) in [
            (super::super::protected(), external, internal, EXTERNAL),
            (super::super::open(), external, internal, EXTERNAL),
            (super::super::internal_routes(), internal, external, INTERNAL),
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
                    routes.insert((path.replace("{*", "{"), method.to_lowercase(), tag.to_owned()));
                }
            }
        }
        let protected: Vec<_> =
            super::super::protected().into_iter().map(|(path, _)| path).collect();
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
        assert_eq!(routes, described);
    }

    #[tokio::test]
    async fn both_servers_serve_it_without_a_token() {
        use crate::http::testing::{Answer, Api};
        let api = Api::start();
        for url in [api.external("/openapi.json"), api.internal("/openapi.json")] {
            let answer = Answer::of(api.client.get(url)).await;
            assert_eq!(answer.code, 200);
            assert_eq!(answer.json(), serde_json::to_value(document()).unwrap());
            assert_eq!(answer.json()["openapi"], "3.1.0");
        }
    }
}
