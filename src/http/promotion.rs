//! The route that makes a replica a primary (03 §6.3).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::answers::{BodyErrors, EXTERNAL, TokenErrors};
use super::api::{Api, Routes, route};
use super::body::JsonBody;
use super::error::{ApiError, ErrorDocument};
use crate::node::promotion::accept::accept;
use crate::node::promotion::attempt::PromotionRequest;
use crate::node::promotion::states::PromotionState;
use crate::spec::wire::PromoteRequest;

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
    vec![route!(promote)]
}

/// A request during a promotion, or after a final one, gets the outcome of that promotion; its own
/// body is checked and not used. The wait has no limit of its own: every step has one. A client
/// that leaves changes nothing.
#[utoipa::path(
    post,
    path = "/promote",
    operation_id = "promoteReplica",
    tag = EXTERNAL,
    summary = "Make a replica the primary, and wait until it is one",
    security(("JWT" = [])),
    request_body = PromoteRequest,
    responses(
        (status = 200, description = "It is a primary, by this request or an earlier one", body = PromotionState),
        (status = 412, description = "There is no spec, or the compute is ending", body = ErrorDocument),
        (status = 500, description = "It failed", body = PromotionState),
        TokenErrors,
        BodyErrors
    )
)]
async fn promote(
    State(api): State<Api>,
    JsonBody(PromoteRequest { spec, wal_flush_lsn }): JsonBody<PromoteRequest>,
) -> Result<(StatusCode, Json<PromotionState>), ApiError> {
    let in_force = api.node.may_be_promoted()?;
    let spec = api.node.params.accept(accept(spec, &in_force)?)?;
    let state = api.node.promotion.ask(PromotionRequest { spec, wal_flush_lsn }).await;
    let code = match &state {
        PromotionState::Completed(_) => StatusCode::OK,
        PromotionState::NotPromoted | PromotionState::Failed { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    Ok((code, Json(state)))
}
