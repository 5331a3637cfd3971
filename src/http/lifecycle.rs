//! The routes that show and change the status of the compute (03 §5.1, §6).
//!
//! The node decides whether a change is legal and hands it to the driver. This module has the order
//! of the checks and the form of the answers.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answers::{BodyErrors, EXTERNAL, INTERNAL, INTERNAL_URL, StateErrors, TokenErrors};
use super::api::{Api, Routes, route};
use super::body::JsonBody;
use super::error::{ApiError, ErrorDocument};
use super::wait::{Wait, Waited};
use crate::node::requests::Terminated;
use crate::node::{StatusDocument, TerminateAnswer, WrongStatus};
use crate::spec::wire::ConfigureRequest;
use crate::spec::{Lsn, ParsedSpec};
use crate::state::{ComputeStatus, TerminateMode};

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
    vec![route!(status), route!(configure), route!(terminate)]
}

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(refresh_configuration)]
}

/// Answers at once, or after the wait that the query asks for.
#[utoipa::path(
    get,
    path = "/status",
    operation_id = "getComputeStatus",
    tag = EXTERNAL,
    summary = "Where in its life the compute is",
    params(
        ("wait" = Option<ComputeStatus>, Query, description = "Answer when the compute has this \
         status, or only a new request can lead to it, or after `timeout`"),
        ("timeout" = Option<String>, Query, description = "Only with `wait`: `500ms`, `30s` (the default), `2m`; \
         5 minutes at most", pattern = "^0*((300000|[12]?[0-9]{1,5})ms|(300|[12]?[0-9]{1,2})s?|[0-5]m)$")
    ),
    security(("JWT" = [])),
    responses(
        (status = 200, description = "At any time", body = StatusDocument),
        (status = 503, description = "Only with `wait`: half of the connections wait already", body = ErrorDocument),
        TokenErrors
    )
)]
async fn status(State(api): State<Api>, uri: Uri) -> Result<impl IntoResponse, ApiError> {
    let wait = Wait::from_uri(&uri)?;
    if let Some(wait) = wait {
        wait.until_over(&api.node, &api.polls).await?;
    }
    let text = api.node.status_text.of(api.node.status_document());
    let text = text.map_err(|_| ApiError::internal())?;
    let kind = [(CONTENT_TYPE, "application/json")];
    Ok((wait.map(|_| Extension(Waited)), kind, text))
}

/// Nothing changes before the spec has passed all checks. The wait has no limit of its own: every
/// path through the state machine ends with an answer. A client that leaves changes nothing.
#[utoipa::path(
    post,
    path = "/configure",
    operation_id = "configureCompute",
    tag = EXTERNAL,
    summary = "Apply a spec and wait until the compute runs with it or has failed",
    security(("JWT" = [])),
    request_body = ConfigureRequest,
    responses(
        (status = 200, description = "Applied; the status at this moment", body = StatusDocument),
        TokenErrors,
        BodyErrors,
        StateErrors
    )
)]
async fn configure(
    State(api): State<Api>,
    body: Result<JsonBody<ConfigureRequest>, ApiError>,
) -> Result<Json<StatusDocument>, ApiError> {
    let refused = |operation, error: ApiError| {
        if error.is_about_the_document() {
            api.node.refuse_document(operation, error.text().to_owned());
        }
        error
    };
    let JsonBody(ConfigureRequest { spec, force_catalog_check, .. }) =
        body.map_err(|error| refused(None, error))?;
    let operation = spec.operation_uuid.clone();
    let accepted = ParsedSpec::try_from(spec).map_err(ApiError::from);
    let accepted = accepted.and_then(|spec| Ok(api.node.params.accept(spec)?));
    let spec = accepted.map_err(|error| refused(operation, error))?;
    Ok(Json(api.node.configure(spec, force_catalog_check.unwrap_or_default()).await?))
}

#[derive(Debug, Deserialize)]
struct TerminateQuery {
    mode: TerminateMode,
}

/// Answer of `/terminate` (02 §12.7).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TerminateDocument {
    /// What the last safekeeper sync printed.
    #[schema(required)]
    lsn: Option<Lsn>,
}

impl From<Terminated> for TerminateDocument {
    fn from(terminated: Terminated) -> Self {
        Self { lsn: terminated.lsn }
    }
}

/// No query string means fast; a query string, even an empty one, must name the mode.
fn terminate_mode(uri: &Uri) -> Result<TerminateMode, QueryRejection> {
    if uri.query().is_none() {
        return Ok(TerminateMode::default());
    }
    Query::<TerminateQuery>::try_from_uri(uri).map(|Query(query)| query.mode)
}

/// Waits until the compute is `terminated`; the stop ladder and the sync have their deadlines.
#[utoipa::path(
    post,
    path = "/terminate",
    operation_id = "terminate",
    tag = EXTERNAL,
    summary = "End the compute and wait until it is terminated",
    security(("JWT" = [])),
    params(("mode" = Option<TerminateMode>, Query, description = "How long the process stays \
            afterwards: fast 30 s, immediate just long enough to answer")),
    responses(
        (status = 200, description = "Terminated by this request", body = TerminateDocument),
        (status = 201, description = "Terminated before", body = TerminateDocument),
        TokenErrors,
        StateErrors
    )
)]
async fn terminate(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let mode = terminate_mode(&uri)?;
    match api.node.terminate(mode).await? {
        TerminateAnswer::Now(terminated) => {
            Ok(Json(TerminateDocument::from(terminated)).into_response())
        }
        TerminateAnswer::Before(terminated) => {
            let document = Json(TerminateDocument::from(terminated));
            Ok((StatusCode::CREATED, document).into_response())
        }
        TerminateAnswer::Interrupted => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the process is ending before the compute is terminated",
        )),
    }
}

#[utoipa::path(
    post,
    path = "/refresh_configuration",
    operation_id = "refreshConfiguration",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "Fetch the configuration again, without waiting for it",
    description = "While another refresh is under way, waits up to 2 s for its end",
    responses(
        (status = 200, description = "Noted"),
        (status = 500, description = "Not possible in the present state", body = ErrorDocument)
    )
)]
async fn refresh_configuration(State(api): State<Api>) -> Result<StatusCode, ApiError> {
    api.node.metrics.pagestream_request_errors.inc();
    // Postgres accepts only 200 as success, so a wrong state is 500 here, with the state's name
    // in the spelling of the original (03 §6.4).
    api.node.refresh_or_join().await.map_err(|WrongStatus(status)| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Cannot refresh compute configuration in state {status:?}"),
        )
    })?;
    Ok(StatusCode::OK)
}
