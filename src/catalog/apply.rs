//! One apply: look, plan, do (05 §6).

use tokio::time::Instant;
use tracing::{info, warn};

use super::concurrency;
use super::execute::{ApplyError, Execution};
use super::plan::{ClusterPlan, Wanted, plan_cluster};
use super::pool::Sessions;
use super::report::ApplyReport;
use super::snapshot;

/// Brings the catalog to what the spec says, with at most `limit` sessions besides the main one.
/// Stops at the first error; a repeated apply goes on from there. The report says what was done
/// until then, and why it went no further.
pub async fn apply(
    sessions: &Sessions,
    wanted: &Wanted<'_>,
    limit: usize,
) -> (ApplyReport, Result<(), ApplyError>) {
    let deadline = Instant::now() + sessions.whole;
    info!("Applying config with max {limit} concurrency");
    let nothing = |error: ApplyError| (ApplyReport::nothing_done(&error), Err(error));
    let main = match sessions.open_patiently(None).await {
        Ok(main) => main,
        Err(error) => return nothing(ApplyError::Connect(error)),
    };
    let state = match snapshot::read(main.session(), &wanted.questions()).await {
        Ok(state) => state,
        Err(error) => return nothing(ApplyError::Snapshot(error)),
    };
    let system = state.system_database.clone();
    let limit = concurrency::within(limit, state.max_connections);
    let plan = match plan_cluster(wanted, state) {
        Ok(plan) => plan,
        Err(error) => return nothing(ApplyError::Plan(error)),
    };
    let ClusterPlan { stages, permissions, unchanged, notes, remarks } = plan;
    notes.iter().for_each(|note| info!("{note}"));
    remarks.iter().for_each(|remark| warn!("{remark}"));
    let execution = Execution::new(sessions, main.session(), &system, &permissions, limit);
    let (mut report, result) = execution.run(stages, deadline, sessions.whole).await;
    unchanged.iter().for_each(|object| report.note_unchanged(object));
    report.error = result.as_ref().err().map(ToString::to_string);
    (report, result)
}
