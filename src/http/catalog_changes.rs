//! The internal routes that change the catalog for programs beside Postgres, such as the local
//! proxy (03 §8.2, §8.3). [`crate::catalog::protected`] lists the objects that they must not touch.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answers::{BodyErrors, INTERNAL, INTERNAL_URL, StateErrors};
use super::api::{Api, Routes, route};
use super::body::JsonBody;
use super::error::{ApiError, ErrorDocument};
use super::sql::{connect, to_its_end};
use crate::catalog::grants::{self, Privilege, SchemaGrant};
use crate::catalog::install_extension::{self, Installation};
use crate::catalog::protected::RequestError;
use crate::node::catalog_turn::CatalogTurn;
use crate::sql::Session;
use crate::state::ComputeStatus;

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(install), route!(grant)]
}

/// Waits for the turn to change catalogs: other work of this program may be changing them in the
/// background.
async fn turn(api: &Api) -> Result<CatalogTurn<'_>, String> {
    let turn = api.node.catalog_turns.enter(api.node.params.timeouts.apply.turn).await;
    turn.map_err(|busy| busy.to_string())
}

/// Connects: the first of the two steps that can fail.
async fn step_connect(api: &Api, name: &str, database: &str) -> Result<Session, String> {
    let session = connect(api, name, Some(database)).await;
    session.map_err(|error| format!("Failed to connect to the database: {error}"))
}

fn failed(what: &str, step: &str) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}: {step}"))
}

/// 403 with the unchanged reason, or the step that failed.
fn not_done(what: &str, error: RequestError) -> ApiError {
    match error {
        RequestError::Refused(refusal) => refusal.into(),
        RequestError::Query(error) => failed(what, &error.to_string()),
    }
}

/// Body of `/extensions` (02 §12.10).
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"extension": "citext", "database": "postgres", "version": "1.6"}))]
struct ExtensionInstallRequest {
    /// Raw name.
    extension: String,
    /// Raw name of the database that gets it.
    database: String,
    /// As in its control file.
    version: String,
}

/// Answer of `/extensions` (02 §12.8).
#[derive(Debug, Serialize, ToSchema)]
struct ExtensionInstallResponse {
    /// As in the request.
    extension: String,
    /// As in the request.
    version: String,
}

#[utoipa::path(
    post,
    path = "/extensions",
    operation_id = "installExtension",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "Create or update an extension",
    request_body = ExtensionInstallRequest,
    responses(
        (
            status = 201,
            description = "It is there in this version",
            body = ExtensionInstallResponse
        ),
        (
            status = 403,
            description = "Extensions that the program manages itself",
            body = ErrorDocument
        ),
        BodyErrors,
        StateErrors
    )
)]
async fn install(
    State(api): State<Api>,
    JsonBody(request): JsonBody<ExtensionInstallRequest>,
) -> Result<(StatusCode, Json<ExtensionInstallResponse>), ApiError> {
    api.node.require(ComputeStatus::Running)?;
    to_its_end(&api.tasks.clone(), async move {
        let ExtensionInstallRequest { extension, database, version } = request;
        let installation = Installation::new(&extension, &version)?;
        let what = "failed to install extension";
        let _turn = turn(&api).await.map_err(|step| failed(what, &step))?;
        let name = install_extension::APPLICATION_NAME;
        let session = step_connect(&api, name, &database).await;
        let session = session.map_err(|step| failed(what, &step))?;
        installation.carry_out(&session).await.map_err(|error| not_done(what, error))?;
        Ok((StatusCode::CREATED, Json(ExtensionInstallResponse { extension, version })))
    })
    .await
}

/// Body of `/grants`, and its answer (02 §12.8, §12.10).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "database": "postgres", "schema": "auth", "privileges": ["USAGE"], "role": "authenticated"
}))]
struct SchemaGrants {
    /// Raw name.
    database: String,
    /// Raw name.
    schema: String,
    /// Only `USAGE` and `CREATE` apply to schemas.
    privileges: Vec<Privilege>,
    /// Raw name.
    role: String,
}

#[utoipa::path(
    post,
    path = "/grants",
    operation_id = "setRoleGrants",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "Grant a role the privileges that it lacks on a schema",
    request_body = SchemaGrants,
    responses(
        (status = 201, description = "The role has them", body = SchemaGrants),
        (
            status = 403,
            description = "Schemas of the server and of the program, superusers and their members, \
                           and `public` for a role",
            body = ErrorDocument
        ),
        BodyErrors,
        StateErrors
    )
)]
async fn grant(
    State(api): State<Api>,
    JsonBody(request): JsonBody<SchemaGrants>,
) -> Result<(StatusCode, Json<SchemaGrants>), ApiError> {
    api.node.require(ComputeStatus::Running)?;
    to_its_end(&api.tasks.clone(), async move {
        let SchemaGrants { database, schema, privileges, role } = &request;
        let grant = SchemaGrant::new(schema, role, privileges)?;
        let what = "failed to grant role privileges to the schema";
        let _turn = turn(&api).await.map_err(|step| failed(what, &step))?;
        let session = step_connect(&api, grants::APPLICATION_NAME, database).await;
        let session = session.map_err(|step| failed(what, &step))?;
        grant.carry_out(&session).await.map_err(|error| not_done(what, error))?;
        Ok((StatusCode::CREATED, Json(request)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::state::Event;

    /// Other catalog work keeps the turn, and no connection to Postgres is made in that time.
    #[tokio::test(start_paused = true)]
    async fn both_take_their_turn() {
        let api = testing::api();
        api.node.begin_start().unwrap();
        api.node.apply(Event::Succeeded).unwrap();
        let _turn = turn(&api).await.unwrap();

        let request = ExtensionInstallRequest {
            extension: "citext".to_owned(),
            database: "postgres".to_owned(),
            version: "1.6".to_owned(),
        };
        let answer = install(State(api.clone()), JsonBody(request)).await;
        let busy = "another task of compute_ctl has been changing catalogs for 150s";
        let text = format!("failed to install extension: {busy}");
        assert_eq!(answer.err().unwrap().parts(), (500, text));

        let request = SchemaGrants {
            database: "postgres".to_owned(),
            schema: "auth".to_owned(),
            privileges: vec![],
            role: "authenticated".to_owned(),
        };
        let answer = grant(State(api.clone()), JsonBody(request)).await;
        let text = format!("failed to grant role privileges to the schema: {busy}");
        assert_eq!(answer.err().unwrap().parts(), (500, text));
    }

    /// The name is enough for a refusal: no turn and no session is needed.
    #[tokio::test]
    async fn what_is_not_for_requests_is_refused() {
        let api = testing::api();
        api.node.begin_start().unwrap();
        api.node.apply(Event::Succeeded).unwrap();
        let _turn = turn(&api).await.unwrap();
        for (schema, role) in [("pg_catalog", "r"), ("neon_migration", "r"), ("auth", "public")] {
            let request = SchemaGrants {
                database: "postgres".to_owned(),
                schema: schema.to_owned(),
                privileges: vec![],
                role: role.to_owned(),
            };
            let answer = grant(State(api.clone()), JsonBody(request)).await;
            let (code, text) = answer.err().unwrap().parts();
            let named = if role == "public" { role } else { schema };
            assert_eq!(code, 403, "{text}");
            assert!(text.contains(&format!("{named:?}")), "{text}");
        }
        let request = ExtensionInstallRequest {
            extension: "neon".to_owned(),
            database: "postgres".to_owned(),
            version: "1.6".to_owned(),
        };
        let answer = install(State(api.clone()), JsonBody(request)).await;
        let (code, text) = answer.err().unwrap().parts();
        assert_eq!(code, 403, "{text}");
        assert!(text.contains("by compute_ctl itself"), "{text}");
    }
}
