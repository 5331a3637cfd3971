//! The examples in the description of the API: one for every body of a request and for every
//! answer.

mod documents;
mod errors;
#[cfg(test)]
mod tests;

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::Operation;

/// Adds the examples of one operation.
pub(super) fn add(operation: &mut Operation) {
    let name = operation.operation_id.clone().unwrap_or_default();
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(|content| put(content, documents::request(&name)));
    }
    for (code, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let example = of(&name, code.parse().unwrap_or_default());
        response.content.values_mut().for_each(|content| put(content, example.clone()));
    }
}

fn of(operation: &str, code: u16) -> Option<Value> {
    match (operation, code) {
        ("promoteReplica", 500) => Some(documents::failed_promotion()),
        (_, code) if errors::is_error(code) => errors::answer(operation, code),
        _ => documents::answer(operation),
    }
}

fn put(content: &mut RefOr<Content>, example: Option<Value>) {
    if let RefOr::T(content) = content {
        content.example = example;
    }
}
