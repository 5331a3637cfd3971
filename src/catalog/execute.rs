//! Carries a plan out: stage after stage, the chains of a stage at the same time, one message per
//! transaction.
//!
//! The first error ends the execution, and so does the deadline for the whole apply: no further
//! statement is sent, and statements in progress are cancelled. The error is returned only when
//! all of them have ended, so that nothing changes the catalog afterwards (05 weaknesses 5, 15 and
//! 21).

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join, join_all};
use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::inspect::look;
use super::operation::Operation;
use super::plan::{Chain, Permissions, PlanError, Stage, plan_database};
use super::pool::{Queue, Sessions};
use super::report::ApplyReport;
use crate::sql::{BatchError, Session, SessionError};

/// Sessions that create or drop databases at the same time, besides the main one. Each copies a
/// template, and a few of them use a machine fully.
const HELPERS: usize = 3;

/// Joins the statements of a message.
const SEPARATOR: &str = ";\n";

/// Why the catalog is not as the spec wants it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// The spec cannot be applied; nothing was changed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The main session could not be opened; nothing was changed.
    #[error("{0}")]
    Connect(SessionError),
    /// The state could not be read; nothing was changed.
    #[error("could not read roles and databases: {0}")]
    Snapshot(SessionError),
    /// A session in a database could not be opened.
    #[error("could not work in database {database:?}: {error}")]
    Database {
        /// Name of the database.
        database: String,
        /// Why it could not be opened.
        error: SessionError,
    },
    /// The whole apply took too long; statements in progress were cancelled.
    #[error(
        "gave up after {} s: {done} operations were done, step {step} of {steps} was in progress, and \
         {left} parts of it (databases, most of them) were left. What is done stays done; applying the \
         spec again goes on from there", limit.as_secs()
    )]
    Deadline {
        /// The limit that was exceeded.
        limit: Duration,
        /// Operations that are committed.
        done: usize,
        /// The stage in progress, counted from 1.
        step: usize,
        /// Stages of the plan.
        steps: usize,
        /// Chains of the stage that had not ended.
        left: usize,
    },
    /// One operation failed; later ones were not tried.
    #[error("could not {what} in database {database:?}: {error}")]
    Operation {
        /// What was tried, with the name of the object.
        what: String,
        /// Database of the session.
        database: String,
        /// Why it failed.
        error: SessionError,
    },
}

/// One plan being carried out.
#[derive(Debug)]
pub struct Execution<'a> {
    sessions: &'a Sessions,
    main: &'a Session,
    /// The database of `main`.
    system: &'a str,
    permissions: &'a Permissions,
    /// Limit for the number of sessions in other databases at a time.
    limit: usize,
    /// Cancelled by the first error.
    stop: CancellationToken,
    outcome: Mutex<Outcome>,
}

#[derive(Debug, Default)]
struct Outcome {
    report: ApplyReport,
    error: Option<ApplyError>,
    /// The stage in progress, counted from 1, and the number of stages.
    step: (usize, usize),
    /// Chains of the stage that have not ended.
    left: usize,
}

impl Outcome {
    /// Whether the deadline for the whole apply has passed, which ends each statement in progress.
    const fn is_late(&self) -> bool {
        matches!(self.error, Some(ApplyError::Deadline { .. }))
    }
}

impl<'a> Execution<'a> {
    /// `main` is a session in the database `system`.
    pub fn new(
        sessions: &'a Sessions,
        main: &'a Session,
        system: &'a str,
        permissions: &'a Permissions,
        limit: usize,
    ) -> Self {
        let (stop, outcome) = (CancellationToken::new(), Mutex::default());
        Self { sessions, main, system, permissions, limit, stop, outcome }
    }

    /// Carries the stages out, until the deadline at most. Returns a report in every case.
    pub async fn run(
        self,
        stages: Vec<Stage>,
        deadline: Instant,
    ) -> (ApplyReport, Result<(), ApplyError>) {
        {
            let mut work = pin!(self.run_stages(stages));
            tokio::select! {
                biased;
                () = &mut work => {}
                () = sleep_until(deadline) => {
                    self.give_up();
                    work.await;
                }
            }
        }
        let Outcome { report, error, .. } = self.outcome.into_inner();
        (report, error.map_or(Ok(()), Err))
    }

    async fn run_stages(&self, stages: Vec<Stage>) {
        let steps = stages.len();
        for (stage, step) in stages.into_iter().zip(1..) {
            {
                let mut outcome = self.outcome();
                (outcome.step, outcome.left) = ((step, steps), stage.len());
            }
            let (system, inside): (Vec<_>, Vec<_>) =
                stage.into_iter().partition(|chain| *chain.database == *self.system);
            // Creating or dropping one database hardly depends on another one, so several sessions
            // share these chains. Other changes in the system database depend on their order, and
            // one session is enough for them.
            let alone = system.iter().flat_map(|chain| &chain.first).any(|op| op.alone);
            let helpers = if inside.is_empty() && alone { HELPERS.min(self.limit) } else { 0 };
            let system = Queue::new(system, helpers.saturating_add(1));
            let inside = Queue::new(inside, self.limit);
            let helping = (1..system.workers()).map(|_| self.help(&system));
            let working = (0..inside.workers()).map(|_| self.work_inside(&inside));
            let on_main = join(self.work_on(self.main, &system), join_all(helping));
            join(on_main, join_all(working)).await;
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    fn give_up(&self) {
        let limit = self.sessions.whole;
        let error = {
            let Outcome { report, step: (step, steps), left, .. } = &*self.outcome();
            let (done, step, steps, left) = (report.counts.done, *step, *steps, *left);
            ApplyError::Deadline { limit, done, step, steps, left }
        };
        self.fail(error);
    }

    fn note_ended(&self) {
        let mut outcome = self.outcome();
        outcome.left = outcome.left.saturating_sub(1);
    }

    /// Never hold the lock across an await. The report is consistent at any moment.
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock()
    }

    /// The apply returns the first error; later ones may come from our own cancelling.
    fn fail(&self, error: ApplyError) {
        self.outcome().error.get_or_insert(error);
        self.stop.cancel();
    }

    fn next(&self, queue: &Queue<Chain>) -> Option<Chain> {
        if self.stop.is_cancelled() { None } else { queue.take() }
    }

    /// Runs chains of the system database on an open session.
    async fn work_on(&self, session: &Session, queue: &Queue<Chain>) {
        while let Some(chain) = self.next(queue) {
            self.run_chain(session, chain).await;
            self.note_ended();
        }
    }

    /// Runs chains of the system database on a session of its own. If it cannot be opened, the
    /// other sessions do all the work.
    async fn help(&self, queue: &Queue<Chain>) {
        match self.sessions.open(None).await {
            Ok(session) => self.work_on(session.session(), queue).await,
            Err(error) => tracing::debug!("creating databases with one session less: {error}"),
        }
    }

    /// Runs chains of other databases, each on a session of its own.
    async fn work_inside(&self, queue: &Queue<Chain>) {
        while let Some(mut chain) = self.next(queue) {
            let mut session = self.sessions.open(Some(&chain.database)).await;
            if session.as_ref().is_err_and(SessionError::is_full) {
                tracing::info!("the server has too many clients, going on with fewer sessions");
                let Some(mine) = queue.give_back(chain) else { return };
                chain = mine;
                session = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    session = self.sessions.open_patiently(Some(&chain.database)) => session,
                };
            }
            match session {
                Ok(session) => self.run_chain(session.session(), chain).await,
                Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_DATABASE) => {
                    self.note_vanished(&chain);
                }
                Err(error) => {
                    let database = chain.database.to_string();
                    self.fail(ApplyError::Database { database, error });
                }
            }
            self.note_ended();
        }
    }

    /// The database was dropped after it was listed, so no work is left in it.
    fn note_vanished(&self, chain: &Chain) {
        let database = &chain.database;
        tracing::warn!("database {database:?} was dropped during the apply, going on without it");
        self.outcome().report.note_vanished(&chain.database);
    }

    async fn run_chain(&self, session: &Session, chain: Chain) {
        let Chain { database, first, look: wanted, then } = chain;
        let mut operations = first;
        if let Some(wanted) = &wanted {
            if self.stop.is_cancelled() {
                return;
            }
            let state = tokio::select! {
                biased;
                state = look(session, self.permissions) => state,
                () = self.stop.cancelled() => {
                    let mut outcome = self.outcome();
                    if outcome.is_late() {
                        outcome.report.note_timed_out();
                    }
                    return;
                }
            };
            match state {
                Ok(state) => {
                    operations.extend(plan_database(&database, wanted, self.permissions, &state));
                }
                Err(error) => {
                    self.outcome().report.note_time_limit(&error);
                    let (what, database) =
                        ("read the schema public".to_owned(), database.to_string());
                    return self.fail(ApplyError::Operation { what, database, error });
                }
            }
        }
        operations.extend(then);
        for message in operations.chunk_by(|a, b| !a.alone && !b.alone) {
            if self.stop.is_cancelled() || !self.send(session, message).await {
                return;
            }
        }
    }

    /// Sends operations as one message, which Postgres runs as one transaction.
    async fn send(&self, session: &Session, message: &[Operation]) -> bool {
        let statements: Vec<&str> =
            message.iter().map(|operation| operation.sql.expose().as_str()).collect();
        let sql = statements.join(SEPARATOR);
        let mut batch = pin!(session.batch(&sql));
        let (done, cancelled) = tokio::select! {
            biased;
            done = &mut batch => (done, false),
            () = self.stop.cancelled() => {
                session.cancel().await;
                // The batch has a deadline of its own.
                (batch.await, true)
            }
        };
        let mut outcome = self.outcome();
        let Err(BatchError { completed, error }) = done else {
            message.iter().for_each(|operation| outcome.report.note_done(operation));
            return true;
        };
        let blamed = error.position().map_or(completed, |position| at(&statements, position));
        // All statements were done, then an error came: the commit failed.
        let Some(failed) = message.get(blamed).or_else(|| message.last()) else { return false };
        outcome.report.note_failed(failed, &error);
        if !cancelled || outcome.is_late() {
            outcome.report.note_time_limit(&error);
        }
        drop(outcome);
        let (what, database) = (failed.to_string(), failed.database.to_string());
        self.fail(ApplyError::Operation { what, database, error });
        false
    }
}

/// Index of the statement that contains the character at `position` of the message, counted from
/// 1.
fn at(statements: &[&str], position: usize) -> usize {
    let mut end = 0_usize;
    let ends = statements.iter().map(|statement| {
        end = end.saturating_add(statement.chars().count()).saturating_add(SEPARATOR.len());
        end
    });
    ends.take_while(|end| *end < position).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_at_a_position() {
        let statements = ["ab", "é", "c"];
        let all = statements.join(SEPARATOR);
        for (position, c) in (1..).zip(all.chars()) {
            let found = statements[at(&statements, position)];
            assert!(SEPARATOR.contains(c) || found.contains(c), "{position} {c} {found}");
        }
        assert_eq!(at(&statements, 100), 3);
    }
}
