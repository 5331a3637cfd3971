//! Progress of the current work: phases of the start, steps of a reconfiguration, and the outcome
//! of the last work. Feeds `/status` (member `extra`) and the metrics of the start.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;

use super::attribution;
use super::documents::{FailedOperation, StatusExtra};
use super::history::StartedPhase;
use super::phase::{PhaseRecord, StartPhase};
use super::{ComputeNode, ComputeState};
use crate::catalog::report::ApplyReport;
use crate::errors::one_line;
use crate::failpoints::edges;
use crate::state::ComputeStatus;
use crate::telemetry::traces::{self, Span};

impl ComputeNode {
    /// Notes that a phase of the start begins; it ends when the guard is dropped. The start itself
    /// uses [`Self::during`] and [`Self::attempt`], which have failpoints.
    pub(crate) fn phase(self: &Arc<Self>, phase: StartPhase) -> PhaseGuard {
        let index = {
            let mut state = self.lock();
            let began = state.started.elapsed();
            state.phases.push(PhaseRecord { phase, began, took: None });
            state.phases.len().saturating_sub(1)
        };
        tracing::debug!("phase {phase} begins");
        self.phase_changed.send_modify(|changes| *changes = changes.wrapping_add(1));
        PhaseGuard { span: traces::span(phase.name()), node: Arc::clone(self), index }
    }

    /// Runs a phase of the start beside others: if it fails, `/status` names it and not the phases
    /// that are abandoned because of it.
    pub fn during<T>(
        self: &Arc<Self>,
        name: StartPhase,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> impl Future<Output = anyhow::Result<T>> {
        let work = edges::around(name.point(), work);
        async move {
            let phase = self.phase(name);
            let result = phase.span.scope(work).await;
            if let Err(error) = &result {
                phase.span.fail(one_line(error.as_ref()));
                self.lock().failed_phase = Some(name.name());
            }
            result
        }
    }

    /// Runs a phase whose error is not one of the start.
    pub fn attempt<T>(
        self: &Arc<Self>,
        name: StartPhase,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = anyhow::Result<T>> {
        let work = edges::around(name.point(), async { anyhow::Ok(work.await) });
        async move {
            let phase = self.phase(name);
            phase.span.scope(work).await
        }
    }

    /// Notes the step of the current work on a running compute, until that succeeds or fails.
    pub fn step(&self, name: &'static str) {
        self.lock().step = Some(name);
    }

    /// Phases so far, in the order in which they began.
    pub fn phases(&self) -> Vec<PhaseRecord> {
        self.lock().phases.clone()
    }

    /// Wakes whenever a phase begins or ends.
    pub fn watch_phases(&self) -> watch::Receiver<usize> {
        self.phase_changed.subscribe()
    }

    /// Duration of the start so far, or in all, and the phases that this time went to; the parts
    /// add up to the whole. Zero before a start has begun.
    pub fn startup_shares(&self) -> (Duration, Vec<(&'static str, Duration)>) {
        let state = self.lock();
        let total = match state.status {
            ComputeStatus::Init => state.started.elapsed(),
            _ => state.start_took.unwrap_or_default(),
        };
        (total, attribution::attribute(&state.phases, total))
    }

    /// Replaces the report in `/status` on what became of each object when the catalog was applied.
    pub fn set_apply_report(&self, report: ApplyReport) {
        self.lock().apply_report = Some(Arc::new(report));
    }

    /// `operation_uuid` of the spec in force.
    pub(super) fn operation(&self) -> Option<String> {
        self.spec()?.spec.operation_uuid.clone()
    }

    /// `None` if all members would be empty.
    pub(super) fn extra(&self, state: &ComputeState) -> Option<StatusExtra> {
        let in_progress = state.phases.iter().filter(|record| record.took.is_none());
        let bytes = Some(self.basebackup.bytes());
        let extra = StatusExtra {
            phases: in_progress.map(|record| record.phase.name()).chain(state.step).collect(),
            startup: state.phases.iter().map(StartedPhase::from).collect(),
            basebackup_bytes: bytes.filter(|n| *n > 0 && state.status == ComputeStatus::Init),
            applied_operation: state.applied_operation.clone(),
            last_failure: state.last_failure.clone(),
            apply_report: state.apply_report.clone(),
            activity: state.activity.clone(),
            vm_monitor: self.vm_monitor.get().map(|board| board.status()),
        };
        (extra != StatusExtra::default()).then_some(extra)
    }
}

impl ComputeState {
    /// Describes the failure of the current work. If no phase was noted, it names the one that
    /// ended last.
    pub(super) fn failed_operation(
        &mut self,
        operation: Option<String>,
        error: String,
    ) -> FailedOperation {
        let ended =
            |record: &&PhaseRecord| record.took.map(|took| record.began.saturating_add(took));
        let last = self.phases.iter().filter(|record| record.took.is_some()).max_by_key(ended);
        let last = last.filter(|_| self.status == ComputeStatus::Init).map(|it| it.phase.name());
        let phase = self.step.take().or(self.failed_phase.take()).or(last);
        FailedOperation { operation, phase, error, at: Utc::now() }
    }
}

/// A phase in progress.
#[derive(Debug)]
#[must_use = "the phase ends when the guard is dropped"]
pub struct PhaseGuard {
    span: Span,
    node: Arc<ComputeNode>,
    index: usize,
}

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        let mut state = self.node.lock();
        let now = state.started.elapsed();
        if let Some(record) = state.phases.get_mut(self.index) {
            let took = now.saturating_sub(record.began);
            record.took = Some(took);
            tracing::info!("phase {} took {:.1} ms", record.phase, took.as_secs_f64() * 1e3);
        }
        drop(state);
        self.node.phase_changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{AcceptedSpec, ComputeParams};
    use crate::os::children::Children;
    use crate::spec::{ComputeSpec, ParsedSpec};
    use crate::state::Event;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::sink::LogSink;

    fn empty() -> Arc<ComputeNode> {
        let log = LogSink::new(std::io::sink()).unwrap();
        let metrics = Metrics::new().unwrap();
        ComputeNode::new(ComputeParams::for_tests(), None, Children::new(), log, metrics).0
    }

    #[tokio::test]
    async fn the_failed_phase_is_named_and_not_the_abandoned_ones() {
        let node = empty();
        assert!(node.status_document().extra.is_none(), "nothing to say yet");
        node.begin_start().unwrap();
        let given_up =
            node.during(StartPhase::Basebackup, std::future::pending::<anyhow::Result<()>>());
        let failing = node.during(StartPhase::Certificate, async {
            let extra = node.status_document().extra.unwrap();
            assert_eq!(extra.phases, ["basebackup", "certificate"]);
            Err::<(), _>(anyhow::anyhow!("no key"))
        });
        assert!(tokio::try_join!(given_up, failing).is_err());
        node.fail("no key".to_owned()).unwrap();
        let extra = node.status_document().extra.unwrap();
        let failure = extra.last_failure.unwrap();
        assert_eq!((failure.phase, failure.error.as_str()), (Some("certificate"), "no key"));
        assert!(extra.phases.is_empty());
    }

    #[test]
    fn steps_of_a_reconfiguration() {
        let node = empty();
        node.begin_start().unwrap();
        drop(node.phase(StartPhase::StartPostgres));
        node.apply(Event::Succeeded).unwrap();
        let extra = node.status_document().extra.unwrap();
        assert_eq!(extra.startup.len(), 1);
        assert!(extra.phases.is_empty(), "nothing is in progress");
        node.apply(Event::Configure).unwrap();
        node.apply(Event::BeginConfiguration).unwrap();
        node.step("write_configuration");
        node.step("apply_catalog");
        node.set_apply_report(ApplyReport {
            vanished: vec!["d".to_owned()],
            ..ApplyReport::default()
        });
        let extra = node.status_document().extra.unwrap();
        assert_eq!(extra.phases, ["apply_catalog"]);
        assert_eq!(extra.apply_report.unwrap().vanished, ["d"]);
        node.fail("x".to_owned()).unwrap();
        let extra = node.status_document().extra.unwrap();
        assert_eq!(extra.last_failure.unwrap().phase, Some("apply_catalog"));
        assert!(extra.phases.is_empty());
    }

    /// Spec and certificate differ: only a spec is applied.
    #[test]
    fn work_on_a_running_compute_is_measured() {
        let node = empty();
        let count = |outcome: &str| {
            let text = node.scrape().unwrap();
            let series =
                format!("compute_ctl_apply_duration_seconds_count{{outcome=\"{outcome}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap().parse::<u64>().unwrap()
        };
        let success = || {
            let text = node.scrape().unwrap();
            let name = "compute_ctl_last_successful_configure_timestamp_seconds ";
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap().parse::<f64>().unwrap()
        };
        node.begin_start().unwrap();
        assert_eq!(success(), 0.0);
        node.apply(Event::Succeeded).unwrap();
        let started = success();
        assert!(started > 1e9, "{started}");
        node.begin_certificate().unwrap();
        node.apply(Event::Succeeded).unwrap();
        assert_eq!((count("succeeded"), success()), (0, started), "no spec was applied");
        for (end, outcome) in [
            (Event::Refused, "refused"),
            (Event::Succeeded, "succeeded"),
            (Event::Failed, "failed"),
        ] {
            assert_eq!(count(outcome), 0, "{outcome}");
            node.apply(Event::Configure).unwrap();
            node.apply(Event::BeginConfiguration).unwrap();
            node.apply(end).unwrap();
            assert_eq!(count(outcome), 1, "{outcome}");
        }
        assert!(success() > started);
        let text = node.scrape().unwrap();
        assert!(text.contains("compute_ctl_ready 1\n"), "{text}");
        let none = "compute_ctl_start_failures_total{phase=\"basebackup\"} 0\n";
        assert!(text.contains(none), "{text}");
    }

    #[test]
    fn a_failed_start_counts_for_its_phase() {
        let node = empty();
        node.begin_start().unwrap();
        drop(node.phase(StartPhase::Basebackup));
        node.fail("x".to_owned()).unwrap();
        let text = node.scrape().unwrap();
        for (phase, count) in [("basebackup", 1), ("start_postgres", 0), ("other", 0)] {
            let line = format!("compute_ctl_start_failures_total{{phase=\"{phase}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains("compute_ctl_ready 0\n"), "{text}");
    }

    fn spec(operation: &str) -> AcceptedSpec {
        let spec: ComputeSpec = serde_json::from_value(serde_json::json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "operation_uuid": operation,
            "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e",
            "timeline_id": "a451a43e3c4f981f67181c3e278d7363",
            "pageserver_connstring": "postgresql://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["127.0.0.1:6500"],
            "cluster": {"roles": [], "databases": []}
        }))
        .unwrap();
        ComputeParams::for_tests().accept(ParsedSpec::try_from(spec).unwrap()).unwrap()
    }

    /// The spec that failed is no longer the one of the node when the failure is seen.
    #[test]
    fn a_failed_operation_is_the_one_of_the_spec_to_apply() {
        let node = empty();
        node.begin_start().unwrap();
        node.replace_spec(&spec("old"));
        node.apply(Event::Succeeded).unwrap();
        node.apply(Event::Refresh).unwrap();
        node.apply(Event::BeginRefresh).unwrap();
        node.replace_spec(&spec("new"));
        node.step("reload");
        node.fail_back("x".to_owned(), Some("new".to_owned()), &spec("old")).unwrap();
        let extra = node.status_document().extra.unwrap();
        let failure = extra.last_failure.unwrap();
        assert_eq!((failure.operation.as_deref(), failure.phase), (Some("new"), Some("reload")));
        assert_eq!(extra.applied_operation.as_deref(), Some("old"));
        assert_eq!(node.spec().unwrap().spec.operation_uuid.as_deref(), Some("old"));
    }

    /// The clock of the start stops with the start.
    #[test]
    fn the_shares_are_those_of_the_start() {
        let node = empty();
        assert_eq!(node.startup_shares().0, Duration::ZERO, "waiting for a spec is not a start");
        node.begin_start().unwrap();
        drop(node.phase(StartPhase::Basebackup));
        node.apply(Event::Succeeded).unwrap();
        let (total, shares) = node.startup_shares();
        assert!(total > Duration::ZERO);
        assert_eq!(shares.iter().map(|(_, took)| *took).sum::<Duration>(), total);
        assert_eq!(node.startup_shares().0, total);
    }
}
