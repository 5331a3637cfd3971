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
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};
use utoipa::{Modify, OpenApi, PartialSchema};

use super::answers::{EXTERNAL, INTERNAL, INTERNAL_URL};
use super::api::Routes;
use super::error::{ApiError, ErrorDocument};
use super::{
    catalog_changes, communicator, database, extension_server, hadron_liveness, health, lfc,
    lifecycle, metrics, promotion,
};
use crate::state::TerminateMode;

/// Routes of both servers, open to all.
pub(super) fn open() -> Routes {
    vec![("/openapi.json", get(openapi))]
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
pub(super) fn document() -> Document {
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
}
