//! One apply: read the state, plan, execute (05 §6).

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::concurrency;
use super::execute::{ApplyError, Execution};
use super::lakebase;
use super::plan::{ClusterPlan, Permissions, Spared, Wanted, plan_cluster};
use super::pool::Sessions;
use super::report::ApplyReport;
use super::snapshot::{self, ClusterState};
use crate::sql::{Session, SessionError};

/// What an apply has looked into, and what it has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Databases that it has looked into.
    pub seen: Vec<Arc<str>>,
    /// Databases that it has not.
    pub spared: Vec<Spared>,
    /// What a look into one of them compares it with.
    pub permissions: Permissions,
}

/// Brings the catalog to what the spec says, with at most `limit` sessions besides the main one;
/// in Lakebase mode also to what that mode wants (05 §22).
/// Stops at the first error; a repeated apply continues from that point. The report lists what was
/// done before the error, and the error itself.
pub async fn apply(
    sessions: &Sessions,
    wanted: &Wanted<'_>,
    limit: usize,
    in_lakebase_mode: bool,
) -> (ApplyReport, Result<Unseen, ApplyError>) {
    let deadline = Instant::now() + sessions.whole;
    info!("Applying config with max {limit} concurrency");
    let nothing = |error: ApplyError| (ApplyReport::nothing_done(&error), Err(error));
    let main = match sessions.open_patiently(None).await {
        Ok(main) => main,
        Err(error) => return nothing(ApplyError::Connect(error)),
    };
    let state = match read(main.session(), wanted, in_lakebase_mode).await {
        Ok(state) => state,
        Err(error) => {
            let mut report = ApplyReport::default();
            report.note_time_limit(&error);
            let error = ApplyError::Snapshot(error);
            report.error = Some(error.to_string());
            return (report, Err(error));
        }
    };
    let system = state.system_database.clone();
    let limit = concurrency::within(limit, state.max_connections);
    let plan = match plan_cluster(wanted, state) {
        Ok(plan) => plan,
        Err(error) => return nothing(ApplyError::Plan(error)),
    };
    let ClusterPlan { stages, permissions, spared, unchanged, notes, remarks } = plan;
    notes.iter().for_each(|note| info!("{note}"));
    remarks.iter().for_each(|remark| warn!("{remark}"));
    let looks = stages.iter().flatten().filter(|chain| chain.look.is_some());
    let seen = looks.map(|chain| Arc::clone(&chain.database)).collect();
    let execution = Execution::new(sessions, main.session(), &system, &permissions, limit);
    let (mut report, result) = execution.run(stages, deadline).await;
    unchanged.iter().for_each(|object| report.note_unchanged(object));
    report.error = result.as_ref().err().map(ToString::to_string);
    (report, result.map(|()| Unseen { seen, spared, permissions }))
}

async fn read(
    session: &Session,
    wanted: &Wanted<'_>,
    in_lakebase_mode: bool,
) -> Result<ClusterState, SessionError> {
    let mut state = snapshot::read(session, &wanted.questions()).await?;
    if in_lakebase_mode {
        state.lakebase = Some(lakebase::read(session).await?);
    }
    Ok(state)
}
