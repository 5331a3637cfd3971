//! `/live`, `/ready` and `/startup`, for container orchestrators and load balancers. All are
//! additions to the documented API.
//!
//! Probes have no tokens, so no route asks for one. Each answers yes (200), or no (503) with the
//! kind of the reason; the details are in the log. An unauthenticated client cannot exhaust
//! anything: each route reads what is known.

use axum::extract::State;
use axum::http::StatusCode;

use super::answers::EXTERNAL;
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};

/// Routes of the external server that are open to all.
pub(super) fn open() -> Routes {
    vec![route!(live), route!(ready), route!(startup)]
}

/// Body of all routes when the answer is yes.
const YES: &str = "\"ok\"";

type Answer = Result<([(axum::http::HeaderName, &'static str); 1], &'static str), ApiError>;

fn answer(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], YES)),
        Err(reason) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
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
        (status = 503, description = "No; `error` says why", body = ErrorDocument)
    )
)]
async fn live(State(api): State<Api>) -> Answer {
    let age = api.node.heartbeat.age();
    let alive = age <= api.limits.heartbeat_limit;
    let reason =
        || format!("not live: the driver's task has not run for {:.1} s", age.as_secs_f64());
    answer(if alive { Ok(()) } else { Err(reason()) })
}

/// Whether clients can be sent here: Postgres serves, whatever the status says.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "getReady",
    tag = EXTERNAL,
    summary = "Whether Postgres serves, so that clients can be sent here; asks for no token",
    responses(
        (status = 200, description = "Yes", body = String, content_type = "application/json"),
        (status = 503, description = "No; `error` says why", body = ErrorDocument)
    )
)]
async fn ready(State(api): State<Api>) -> Answer {
    answer(api.node.readiness.ready().map_err(|reason| format!("not ready: {reason}")))
}

/// Whether the first start has succeeded; stays so until the process ends.
#[utoipa::path(
    get,
    path = "/startup",
    operation_id = "getStartup",
    tag = EXTERNAL,
    summary = "Whether the first start is over; asks for no token",
    responses(
        (status = 200, description = "Yes", body = String, content_type = "application/json"),
        (status = 503, description = "No; `error` says why", body = ErrorDocument)
    )
)]
async fn startup(State(api): State<Api>) -> Answer {
    answer(api.node.readiness.started().map_err(|reason| format!("not started: {reason}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::api;
    use super::*;
    use crate::node::readiness::Unready;
    use crate::state::{Event, TerminateMode};

    #[tokio::test]
    async fn a_driver_that_does_not_tick_is_not_live() {
        let mut api = api();
        assert!(live(State(api.clone())).await.is_ok(), "its first tick is fresh");
        api.limits.heartbeat_limit = Duration::ZERO;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (code, reason) = live(State(api)).await.unwrap_err().parts();
        assert_eq!(code, 503);
        assert!(reason.starts_with("not live: the driver's task has not run for 0.0"), "{reason}");
    }

    /// The status does not matter between the start and the end.
    #[tokio::test]
    async fn ready_and_startup_follow_the_start_postgres_and_the_end() {
        let api = api();
        let (node, readiness) = (&api.node, &api.node.readiness);
        let asks = async |ready: &str, startup: &str| {
            let said = [ready_text(&api).await, startup_text(&api).await];
            assert_eq!(said, [ready, startup], "{}", node.status());
        };
        let waits = "the compute has no spec yet and waits for /configure";
        asks(&format!("not ready: {waits}"), &format!("not started: {waits}")).await;
        node.apply(Event::Configure).unwrap();
        node.begin_start().unwrap();
        asks("not ready: the compute is starting", "not started: the compute is starting").await;
        node.apply(Event::Succeeded).unwrap();
        asks("ok", "ok").await;
        for event in [
            Event::Configure,
            Event::BeginConfiguration,
            Event::Failed,
            Event::Refresh,
            Event::BeginRefresh,
            Event::Failed,
            Event::Refresh,
            Event::BeginRefresh,
            Event::Succeeded,
        ] {
            node.apply(event).unwrap();
            asks("ok", "ok").await;
        }
        readiness.does_not_answer(Unready::NoAnswer, &"late");
        asks("not ready: Postgres does not answer; the log says why", "ok").await;
        // A reconfiguration that succeeds proves nothing: it may have sent no SQL.
        node.begin_certificate().unwrap();
        node.apply(Event::Succeeded).unwrap();
        asks("not ready: Postgres does not answer; the log says why", "ok").await;
        readiness.answers();
        asks("ok", "ok").await;
        node.apply(Event::Terminate(TerminateMode::Fast)).unwrap();
        asks("not ready: the compute is ending", "ok").await;
    }

    async fn ready_text(api: &Api) -> String {
        text(ready(State(api.clone())).await)
    }

    async fn startup_text(api: &Api) -> String {
        text(startup(State(api.clone())).await)
    }

    fn text(answer: Answer) -> String {
        answer.map_or_else(|error| error.parts().1, |_| "ok".to_owned())
    }
}
