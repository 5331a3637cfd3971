//! Whether Postgres answers, for `/ready`.
//!
//! However many clients ask, at most one query to Postgres runs at a time, and at most one starts
//! within [`HttpLimits::ready_max_age`].

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::limits::HttpLimits;
use crate::node::ComputeNode;
use crate::server::ServerTasks;
use crate::sql::{Session, SessionDeadlines, SessionError};

/// `application_name` of the session that asks.
const READY: &str = "compute_ctl:ready";

/// The last answer of Postgres, or the query in progress.
#[derive(Debug, Default)]
pub(super) struct ReadyProbe {
    last: Mutex<Option<Question>>,
}

#[derive(Debug, Clone)]
struct Question {
    asked: Instant,
    /// None while the query is in progress.
    answer: watch::Receiver<Option<bool>>,
}

impl Question {
    /// Whether a caller can use the answer of this query now.
    fn is_fresh(&self, max_age: Duration) -> bool {
        let under_way = self.answer.borrow().is_none() && self.answer.has_changed().is_ok();
        under_way || self.asked.elapsed() < max_age
    }
}

impl ReadyProbe {
    /// The query runs in a task of its own: it goes on when the client that caused it leaves, and
    /// all other callers wait for the same query.
    pub(super) async fn ask(
        &self,
        node: &Arc<ComputeNode>,
        limits: HttpLimits,
        tasks: &ServerTasks,
    ) -> bool {
        let mut question = {
            let mut last = self.lock();
            match last.as_ref().filter(|last| last.is_fresh(limits.ready_max_age)) {
                Some(last) => last.clone(),
                None => last
                    .insert(Question::start(Arc::clone(node), limits.ready_probe, tasks))
                    .clone(),
            }
        };
        // An error: the task ended without an answer.
        let answer = question.answer.wait_for(Option::is_some).await;
        answer.is_ok_and(|answer| *answer == Some(true))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Question>> {
        self.last.lock()
    }
}

impl Question {
    fn start(node: Arc<ComputeNode>, limit: Duration, tasks: &ServerTasks) -> Self {
        let (sender, answer) = watch::channel(None);
        tasks.spawn(async move {
            let result = timeout(limit, select_1(&node, limit)).await;
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

async fn select_1(node: &ComputeNode, limit: Duration) -> Result<(), SessionError> {
    let deadlines = SessionDeadlines { connect: limit, statement: limit, lock: limit };
    let params = &node.params;
    let config = params.session(READY)?;
    Session::connect(&config, deadlines).await?.query("SELECT 1").await?;
    Ok(())
}
