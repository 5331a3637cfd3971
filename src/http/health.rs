//! `/live` and `/ready`, for container orchestrators and load balancers. Both are additions to the
//! documented API.
//!
//! Probes have no tokens, so neither route asks for one, and each answers only yes (200) or no
//! (503); the log has the reason. An unauthenticated client cannot exhaust anything: `/live` reads
//! a number, and `/ready` shares one query to Postgres among all callers ([`super::ready`]).

use axum::extract::State;
use axum::http::StatusCode;

use super::answers::EXTERNAL;
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use crate::state::ComputeStatus;

/// Routes of the external server that are open to all.
pub(super) fn open() -> Routes {
    vec![route!(live), route!(ready)]
}

/// Body of both routes when the answer is yes.
const YES: &str = "\"ok\"";

type Answer = Result<([(axum::http::HeaderName, &'static str); 1], &'static str), ApiError>;

fn answer(yes: bool, no: &'static str) -> Answer {
    if yes {
        Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], YES))
    } else {
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, no))
    }
}

/// Whether the driver's task has ticked lately. A compute that is starting, has failed or is
/// ending is alive; only a stuck process is not.
#[utoipa::path(
    get,
    path = "/live",
    operation_id = "getLive",
    tag = EXTERNAL,
    summary = "Whether the process is not stuck; asks for no token",
    responses(
        (status = 200, description = "Yes", body = String, content_type = "application/json"),
        (status = 503, description = "No", body = ErrorDocument)
    )
)]
async fn live(State(api): State<Api>) -> Answer {
    answer(api.node.heartbeat.age() <= api.limits.heartbeat_limit, "not live")
}

/// Whether clients can be sent here: the status is `running`, and Postgres has answered lately.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "getReady",
    tag = EXTERNAL,
    summary = "Whether clients can be sent here; asks for no token",
    responses(
        (status = 200, description = "Yes", body = String, content_type = "application/json"),
        (status = 503, description = "No", body = ErrorDocument)
    )
)]
async fn ready(State(api): State<Api>) -> Answer {
    let running = || api.node.status() == ComputeStatus::Running;
    let yes = running() && api.ready.ask(&api.node, api.limits, &api.tasks).await && running();
    answer(yes, "not ready")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::api;
    use super::*;

    #[tokio::test]
    async fn a_driver_that_does_not_tick_is_not_live() {
        let mut api = api();
        assert!(live(State(api.clone())).await.is_ok(), "its first tick is fresh");
        api.limits.heartbeat_limit = Duration::ZERO;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (code, _) = live(State(api)).await.unwrap_err().parts();
        assert_eq!(code, 503);
    }
}
