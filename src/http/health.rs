//! `/live` and `/ready`, for whoever restarts containers and routes clients. Additions to the
//! documented API.
//!
//! Probes have no tokens, so neither route asks for one, and neither tells more than yes (200) or
//! no (503); why is in the log. Neither costs anything that a stranger could use up: `/live` reads
//! a number, and however many ask `/ready`, Postgres is asked once at a time and once in
//! [`ready_max_age`](crate::timeouts::Timeouts::ready_max_age).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::error::{ApiError, ErrorDocument};
use super::openapi::EXTERNAL;
use super::{Api, Routes};
use crate::node::ComputeNode;
use crate::sql::{Session, SessionDeadlines, SessionError};
use crate::state::ComputeStatus;

/// `application_name` of the session that asks.
const READY: &str = "compute_ctl:ready";

/// Routes of the external server that are open to all.
pub(super) fn open() -> Routes {
    vec![("/live", get(live)), ("/ready", get(ready))]
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
/// ending is alive; only a process that is stuck is not.
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
    let limit = api.node.params.timeouts.heartbeat_limit;
    answer(api.node.heartbeat.age() <= limit, "not live")
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
    let yes = running() && api.ready.ask(&api.node).await && running();
    answer(yes, "not ready")
}

/// What Postgres answered last, or the question that is under way.
#[derive(Debug, Default)]
pub(super) struct ReadyProbe {
    last: Mutex<Option<Question>>,
}

#[derive(Debug, Clone)]
struct Question {
    asked: Instant,
    /// None as long as it is under way.
    answer: watch::Receiver<Option<bool>>,
}

impl Question {
    /// Whether its answer will do for somebody who asks now.
    fn is_fresh(&self, node: &ComputeNode) -> bool {
        let under_way = self.answer.borrow().is_none() && self.answer.has_changed().is_ok();
        under_way || self.asked.elapsed() < node.params.timeouts.ready_max_age
    }
}

impl ReadyProbe {
    /// The question runs in a task of its own: it goes on when the client that caused it leaves,
    /// and all others wait for the same one.
    async fn ask(&self, node: &Arc<ComputeNode>) -> bool {
        let mut question = {
            let mut last = self.lock();
            match last.as_ref().filter(|last| last.is_fresh(node)) {
                Some(last) => last.clone(),
                None => last.insert(Question::start(Arc::clone(node))).clone(),
            }
        };
        // An error: the task ended without an answer.
        let answer = question.answer.wait_for(Option::is_some).await;
        answer.is_ok_and(|answer| *answer == Some(true))
    }

    /// It is whole at any moment.
    fn lock(&self) -> MutexGuard<'_, Option<Question>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn start(node: Arc<ComputeNode>) -> Self {
        let (sender, answer) = watch::channel(None);
        tokio::spawn(async move {
            let limit = node.params.timeouts.ready_probe;
            let result = timeout(limit, select_1(&node)).await;
            let yes = match result {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!("not ready: {error}");
                    false
                }
                Err(_) => {
                    tracing::warn!("not ready: Postgres did not answer within {limit:?}");
                    false
                }
            };
            sender.send_replace(Some(yes));
        });
        Self { asked: Instant::now(), answer }
    }
}

async fn select_1(node: &ComputeNode) -> Result<(), SessionError> {
    let limit = node.params.timeouts.ready_probe;
    let deadlines = SessionDeadlines { connect: limit, statement: limit, lock: limit };
    let params = &node.params;
    let config = params.session(READY)?;
    Session::connect(&config, deadlines).await?.query("SELECT 1").await?;
    Ok(())
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
        let node = Arc::get_mut(&mut api.node).unwrap();
        node.params.timeouts.heartbeat_limit = Duration::ZERO;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let (code, _) = live(State(api)).await.unwrap_err().parts();
        assert_eq!(code, 503);
    }
}
