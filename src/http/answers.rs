//! Shared by the descriptions of the handlers: tags, groups of error answers, schemas of ids.
//!
//! The handlers depend on this file, so that they need not depend on [`super::routes`].

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::error::ErrorDocument;
use crate::spec::{Lsn, TenantId, TimelineId};

/// Tag of the operations of the external server.
pub(super) const EXTERNAL: &str = "external";
/// Tag of the operations of the internal server.
pub(super) const INTERNAL: &str = "internal";
/// URL of the internal server, with its usual port.
pub(super) const INTERNAL_URL: &str = "http://localhost:3081";

/// Answers of every route that asks for a token (03 §4).
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "describes what `auth` answers")]
pub(super) enum TokenErrors {
    /// The token is missing, or the request is malformed.
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
    /// The request is not JSON, or something in it cannot be used.
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
    /// The bodies of the requests in progress use up the memory for bodies.
    #[response(status = 503)]
    NoRoom(ErrorDocument),
}

/// Answers of every route that checks the state and then acts.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "describes what the node and Postgres answer")]
pub(super) enum StateErrors {
    /// Not in the present state.
    #[response(status = 412)]
    WrongState(ErrorDocument),
    /// The operation failed.
    #[response(status = 500)]
    Failed(ErrorDocument),
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
