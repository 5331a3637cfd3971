//! The description of both servers (03 §15) without its routes: [`super::routes`] adds them.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{OpenApi, PartialSchema};

use super::answers::{EXTERNAL, INTERNAL};
use super::{examples, named};
use crate::state::TerminateMode;

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
    components(schemas(TerminateMode))
)]
struct Base;

/// The description before the routes are added.
pub(super) fn base() -> Document {
    Base::openapi()
}

/// Adds what all operations have in common.
pub(super) fn complete(document: &mut Document) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("JWT", SecurityScheme::Http(scheme.build()));
    let request_id = HeaderBuilder::new()
        .schema(Some(String::schema()))
        .description(Some("The id of the request, or a fresh one"))
        .build();
    components.headers.insert("RequestId".to_owned(), RefOr::T(request_id));
    named::name_forms(components);
    let operations = document.paths.paths.values_mut().flat_map(operations);
    for operation in operations {
        if operation.tags.iter().flatten().any(|tag| tag == INTERNAL) {
            let responses = &mut operation.responses.responses;
            responses.entry(FOREIGN.to_owned()).or_insert_with(|| foreign().into());
        }
        examples::add(operation);
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                let request_id = Ref::new("#/components/headers/RequestId");
                response.headers.insert("x-request-id".to_owned(), RefOr::Ref(request_id));
            }
        }
    }
    // The star, which lets a parameter contain slashes, is syntax of the router only.
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths.map(|(path, item)| (path.replace("{*", "{"), item)).collect();
}

/// What [`super::foreign`] answers.
const FOREIGN: &str = "421";

fn foreign() -> Response {
    let document = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorDocument")));
    ResponseBuilder::new()
        .description("The request is that of a page in a browser, or `Host` is another site's name")
        .content("application/json", document.build())
        .build()
}

/// The methods that our routes have.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [item.get.as_mut(), item.post.as_mut(), item.delete.as_mut()].into_iter().flatten()
}
