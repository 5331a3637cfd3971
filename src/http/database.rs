//! The external routes that look into Postgres (03 §5.3 to §5.6).

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::error::SqlState;
use utoipa::{IntoParams, ToSchema};

use super::answers::{EXTERNAL, StateErrors, TokenErrors};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use super::sql::{connect, connect_with, to_its_end};
use crate::catalog::listing::{self, ListedDatabase, ListedRole, Listing};
use crate::catalog::{insights, writability};
use crate::postgres::client::Address;
use crate::secret::Secret;
use crate::sql::dump::{self, Dump, DumpError, DumpRequest, Piece};
use crate::sql::{SessionDeadlines, SessionError};
use crate::state::ComputeStatus;
use crate::telemetry::shown::shown;

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
    vec![
        route!(check_writability),
        route!(dbs_and_roles),
        route!(database_schema),
        route!(get_insights),
    ]
}

#[utoipa::path(
    post,
    path = "/check_writability",
    operation_id = "checkComputeWritability",
    tag = EXTERNAL,
    summary = "Write one row",
    security(("JWT" = [])),
    responses(
        (
            status = 200,
            description = "Written, or the disk is full",
            body = bool,
            content_type = "application/json"
        ),
        (
            status = 409,
            description = "An object with the name of ours has another owner, so it is not touched",
            body = ErrorDocument
        ),
        TokenErrors,
        StateErrors
    )
)]
async fn check_writability(State(api): State<Api>) -> Result<Json<bool>, ApiError> {
    api.node.require(ComputeStatus::Running)?;
    let timeouts = &api.node.params.timeouts;
    let deadlines = SessionDeadlines { statement: writability::LIMIT, ..timeouts.sql };
    to_its_end(&api.tasks.clone(), async move {
        let name = writability::APPLICATION_NAME;
        let session = connect_with(&api, name, None, deadlines).await?;
        writability::check(&session).await?;
        Ok(Json(true))
    })
    .await
}

/// The body is a JSON string that contains JSON; clients decode twice.
#[utoipa::path(
    get,
    path = "/insights",
    operation_id = "getComputeInsights",
    tag = EXTERNAL,
    summary = "The statements that take longest",
    security(("JWT" = [])),
    responses(
        (
            status = 200,
            description = "JSON in a JSON string: an object with the rows of pg_stat_statements",
            body = String,
            content_type = "application/json"
        ),
        (
            status = 409,
            description = "An object with the name of ours has another owner, so it is not touched",
            body = ErrorDocument
        ),
        TokenErrors,
        StateErrors
    )
)]
async fn get_insights(State(api): State<Api>) -> Result<Json<String>, ApiError> {
    api.node.require(ComputeStatus::Running)?;
    let session = connect(&api, insights::APPLICATION_NAME, None).await?;
    let rows = insights::slowest_statements(&session).await?.join(", ");
    Ok(Json(format!("{{\"pg_stat_statements\": [{rows}]}}")))
}

/// Catalog objects (02 §12.6).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CatalogObjects {
    /// Predefined ones included.
    roles: Vec<RoleObject>,
    /// Templates included.
    databases: Vec<DatabaseObject>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RoleObject {
    /// Raw name.
    name: String,
    /// Verifier as it is stored.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = Option<String>, required)]
    encrypted_password: Option<Secret<String>>,
    /// Not filled.
    #[schema(value_type = Option<Vec<Object>>, required)]
    options: Option<()>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DatabaseObject {
    /// Raw name.
    name: String,
    /// Raw name of the owner.
    owner: String,
    /// Not filled.
    #[schema(value_type = Option<Vec<Object>>, required)]
    options: Option<()>,
    /// Connections are not allowed.
    restrict_conn: bool,
    /// A drop was begun and not finished.
    invalid: bool,
}

/// Writes a verifier in clear text: verifiers are part of the contract (03 W25). No other code
/// sends them out.
fn exposed<S: Serializer>(
    password: &Option<Secret<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    password.as_ref().map(Secret::expose).serialize(serializer)
}

impl From<Listing> for CatalogObjects {
    fn from(Listing { roles, databases }: Listing) -> Self {
        let role = |ListedRole { name, password }| RoleObject {
            name,
            encrypted_password: password,
            options: None,
        };
        let database = |ListedDatabase { name, owner, restrict_conn, invalid }| DatabaseObject {
            name,
            owner,
            options: None,
            restrict_conn,
            invalid,
        };
        Self {
            roles: roles.into_iter().map(role).collect(),
            databases: databases.into_iter().map(database).collect(),
        }
    }
}

#[utoipa::path(
    get,
    path = "/dbs_and_roles",
    operation_id = "getDbsAndRoles",
    tag = EXTERNAL,
    summary = "All databases and roles of the catalog",
    security(("JWT" = [])),
    responses(
        (status = 200, description = "In any state", body = CatalogObjects),
        TokenErrors,
        (status = 500, description = "Postgres does not answer", body = ErrorDocument)
    )
)]
async fn dbs_and_roles(State(api): State<Api>) -> Result<Json<CatalogObjects>, ApiError> {
    let session = connect(&api, listing::APPLICATION_NAME, None).await?;
    Ok(Json(listing::list(&session).await?.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SchemaQuery {
    /// Name of the database.
    #[param(example = "postgres")]
    database: String,
}

/// The status is decided when the first bytes of the dump arrive.
#[utoipa::path(
    get,
    path = "/database_schema",
    operation_id = "getDatabaseSchema",
    tag = EXTERNAL,
    summary = "The schema of one database, as pg_dump writes it",
    security(("JWT" = [])),
    params(SchemaQuery),
    responses(
        (
            status = 200,
            description = "SQL text, in spite of its type. A broken connection means \
                           an incomplete dump",
            content_type = "application/json"
        ),
        TokenErrors,
        (status = 400, description = "Token or query malformed", body = ErrorDocument),
        (status = 404, description = "There is no such database", body = ErrorDocument),
        (status = 500, description = "There is no dump", body = ErrorDocument)
    )
)]
async fn database_schema(
    State(api): State<Api>,
    query: Result<Query<SchemaQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(SchemaQuery { database }) = query.map_err(|rejection| {
        ApiError::new(rejection.status(), rejection.body_text().to_lowercase())
    })?;
    let params = &api.node.params;
    let request = DumpRequest {
        install: &params.install,
        children: &api.node.children,
        address: &Address::of(&params.connstr),
        database: &database,
        limits: params.timeouts.dump,
    };
    let error = match dump::start(request).await {
        Ok(dump) => return Ok(streamed(dump)),
        Err(error) => error,
    };
    let is_missing = matches!(error, DumpError::NoOutput) && is_missing(&api, &database).await;
    let name = shown(&database).quoted();
    // A database that does not exist is a mistake of the client.
    if is_missing {
        tracing::debug!("no schema of database {name}: {error}");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "database does not exist"));
    }
    tracing::error!("no schema of database {name}: {error}");
    let failed = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed to execute pg_dump");
    Err(match error {
        DumpError::Address => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "unexpected I/O error")
        }
        DumpError::Start { .. } | DumpError::NoOutput => failed(),
    })
}

/// Asks Postgres, whose errors have a code, instead of parsing the output of `pg_dump`.
async fn is_missing(api: &Api, database: &str) -> bool {
    match connect(api, listing::APPLICATION_NAME, Some(database)).await {
        Err(SessionError::Connect(error)) => error.sqlstate == Some(SqlState::INVALID_CATALOG_NAME),
        _ => false,
    }
}

/// SQL text, although the type says JSON: clients expect that. A dump that breaks off breaks the
/// connection, so that a client cannot take it for a complete one (03 W15).
fn streamed(Dump { first, rest }: Dump) -> Response {
    let pieces = stream::try_unfold((Some(first), rest), |(first, mut rest)| async move {
        if let Some(first) = first {
            return Ok(Some((first, (None, rest))));
        }
        match rest.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Some((bytes, (None, rest)))),
            Some(Piece::Complete) => Ok(None),
            None => Err("pg_dump failed half-way"),
        }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}
