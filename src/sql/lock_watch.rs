//! The one session that finds out what other sessions wait for.
//!
//! An apply may have a hundred sessions that meet the same lock at the same moment. They share one
//! watch: a session that has waited for too long asks it, and one query answers all sessions that
//! ask at that time. Invariant: the watch has at most one connection, opened for the first
//! question and closed with the last owner of the watch.

use std::collections::HashMap;
use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::blocked::{self, Wait};
use super::config::SessionConfig;
use super::error::SessionError;
use super::raw::{RawSession, SessionDeadlines};

/// `application_name` of the session.
const LOCK_WATCH: &str = "compute_ctl:lock_watch";

/// How many questions one query answers; the others wait for the next query.
const AT_A_TIME: usize = 1000;

/// The wait of a backend, or the error that kept the watch from finding it.
type Answer = Result<Option<Wait>, SessionError>;

/// The waiting backend, and where the answer goes.
#[derive(Debug)]
struct Question {
    pid: i32,
    reply: oneshot::Sender<Answer>,
}

/// Where questions go. The connection is opened for the first one.
#[derive(Debug, Default)]
pub struct LockWatch(OnceLock<(mpsc::UnboundedSender<Question>, AbortOnDropHandle<()>)>);

impl LockWatch {
    /// What a backend waits for; `None` if it waits for no lock.
    pub(super) async fn wait_of(
        &self,
        pid: i32,
        config: &SessionConfig,
        deadlines: SessionDeadlines,
    ) -> Answer {
        let (questions, _) = self.0.get_or_init(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let serve = serve(config.for_watch(LOCK_WATCH), deadlines, receiver);
            (sender, AbortOnDropHandle::new(tokio::spawn(serve)))
        });
        let (reply, answer) = oneshot::channel();
        let _ = questions.send(Question { pid, reply });
        // Each question gets an answer in time: the session of the watch has deadlines.
        answer.await.unwrap_or(Ok(None))
    }
}

async fn serve(
    config: SessionConfig,
    deadlines: SessionDeadlines,
    mut questions: mpsc::UnboundedReceiver<Question>,
) {
    // The statements of the watch are not watched themselves, so they get the connect deadline.
    let deadlines = SessionDeadlines { statement: deadlines.connect, ..deadlines };
    let (mut session, mut asked) = (None, Vec::new());
    while questions.recv_many(&mut asked, AT_A_TIME).await > 0 {
        let pids: Vec<i32> = asked.iter().map(|question| question.pid).collect();
        let mut answers = look(&mut session, &config, deadlines, &pids).await;
        for Question { pid, reply } in asked.drain(..) {
            let answer = match &mut answers {
                Ok(waits) => Ok(waits.remove(&pid)),
                Err(error) => Err(error.clone()),
            };
            // The session that asked may have given up.
            let _ = reply.send(answer);
        }
    }
}

/// Asks with the kept session. A session that failed is not used again.
async fn look(
    kept: &mut Option<RawSession>,
    config: &SessionConfig,
    deadlines: SessionDeadlines,
    pids: &[i32],
) -> Result<HashMap<i32, Wait>, SessionError> {
    let session = match kept.take() {
        Some(session) if !session.is_closed() => session,
        _ => RawSession::connect(config, deadlines).await?,
    };
    let rows = session.batch(&blocked::query(pids)).await.map_err(|batch| batch.error)?;
    *kept = Some(session);
    blocked::waits(&rows)
}
