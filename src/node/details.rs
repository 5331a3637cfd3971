//! What an operator looks at: `GET /details`, the page and `compute_ctl status`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::ComputeNode;
use super::documents::StatusDocument;
use super::history::{FinishedWork, StatusChange};
use crate::duration::{millis, with_z};
use crate::spec::ComputeMode;
use crate::storage::tries::Try;
use crate::telemetry::lease_metrics::LeaseEnd;
use crate::telemetry::metrics::BUILD_TAG;

/// `GET /details`: the status and what explains it. Members may be added.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Details {
    /// Version and build tag of `compute_ctl`.
    pub version: String,
    /// `--compute-id`.
    pub compute_id: Option<String>,
    /// `primary`, `static` or `replica`; null without a spec.
    pub mode: Option<&'static str>,
    /// Major version of Postgres.
    pub postgres_version: u32,
    /// Port of Postgres in `--connstr`.
    pub postgres_port: Option<u16>,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// When the present status began.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub since: DateTime<Utc>,
    /// Milliseconds since the present status began.
    pub since_ms: u64,
    /// Whether clients can be sent here, as `/ready` says it.
    pub ready: bool,
    /// Why not.
    pub unready_reason: Option<String>,
    /// How long the start took, in milliseconds; so far, while it is in progress.
    pub startup_ms: u64,
    /// The start, reconfiguration or refresh that ended last.
    pub last_work: Option<FinishedWork>,
    /// Settings that take effect only after a restart of Postgres; null if it has not been asked since
    /// the last change.
    pub pending_restart: Option<Vec<String>>,
    /// The last changes of the status, oldest first, 50 at most.
    pub changes: Vec<StatusChange>,
    /// Peers that are being asked.
    pub tries: Vec<Try>,
    /// LSN leases at pageservers; only of a static compute.
    pub leases: Vec<Lease>,
    /// End of validity of the certificate of Postgres, with TLS.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub certificate_ends: Option<String>,
    /// The document of `/status`.
    pub status: StatusDocument,
}

/// An LSN lease at a pageserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Lease {
    /// Number of the shard and of all shards.
    pub shard: String,
    /// Its pageserver.
    pub pageserver: String,
    /// The LSN that the pageserver keeps.
    pub lsn: String,
    /// Until when it does; null after it has refused for good.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub ends: Option<DateTime<Utc>>,
}

impl From<LeaseEnd> for Lease {
    fn from(LeaseEnd { shard, pageserver, lsn, seconds }: LeaseEnd) -> Self {
        // Whole seconds say enough; 0 and what no date can be is a refusal.
        #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
        let seconds = seconds as i64;
        let ends = DateTime::from_timestamp(seconds, 0).filter(|_| seconds > 0);
        Self { shard, pageserver, lsn, ends }
    }
}

impl ComputeNode {
    /// Document of `GET /details`.
    pub fn details(&self) -> Details {
        let (status, spec) = (self.status_document(), self.spec());
        let (startup, _) = self.startup_shares();
        let (changes, last_work, pending_restart, uptime) = self.history();
        let last = changes.last();
        let unready = self.readiness.ready().err();
        let ends = self.metrics.certificate_expiry();
        Details {
            version: format!("{} (build tag {BUILD_TAG})", env!("CARGO_PKG_VERSION")),
            compute_id: self.params.compute_id.clone(),
            mode: spec.as_ref().map(|spec| mode(spec.spec.mode)),
            postgres_version: self.params.install.version.major(),
            postgres_port: self.params.connstr.port(),
            uptime_ms: millis(uptime),
            since: last.map_or(status.start_time, |change| change.at),
            since_ms: last.map_or(0, |change| change.age_ms),
            ready: unready.is_none(),
            unready_reason: unready.map(|reason| reason.to_string()),
            startup_ms: millis(startup),
            last_work,
            pending_restart,
            changes,
            tries: self.tries.now(),
            leases: self.metrics.leases.now().into_iter().map(Lease::from).collect(),
            certificate_ends: ends
                .map(|end| end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            status,
        }
    }

    /// Number of starts, reconfigurations and refreshes that are over.
    pub fn finished_works(&self) -> u64 {
        self.lock().history.works()
    }

    /// Keeps the names of settings that wait for a restart, as Postgres gave them after so many
    /// works.
    pub fn set_pending_restart(&self, works: u64, names: Vec<String>) {
        self.lock().history.set_pending_restart(works, names);
    }

    fn history(&self) -> (Vec<StatusChange>, Option<FinishedWork>, Option<Vec<String>>, Duration) {
        let state = self.lock();
        let history = &state.history;
        (history.changes(), history.finished(), history.pending_restart(), history.age())
    }
}

const fn mode(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Primary => "primary",
        ComputeMode::Static(_) => "static",
        ComputeMode::Replica => "replica",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ComputeParams;
    use crate::os::children::Children;
    use crate::state::Event;
    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::sink::LogSink;

    #[test]
    fn an_empty_compute_and_a_failed_one() {
        let log = LogSink::new(std::io::sink()).unwrap();
        let metrics = Metrics::new().unwrap();
        let node =
            ComputeNode::new(ComputeParams::for_tests(), None, Children::new(), log, metrics).0;
        let details = node.details();
        assert_eq!((details.mode, details.ready, details.last_work), (None, false, None));
        assert_eq!(details.changes.len(), 1);
        assert_eq!(details.since, details.changes[0].at);

        node.apply(Event::Configure).unwrap();
        node.begin_start().unwrap();
        node.fail("no luck".to_owned()).unwrap();
        let value = serde_json::to_value(node.details()).unwrap();
        assert_eq!(value["status"]["status"], "failed");
        assert_eq!(value["last_work"]["work"], "start");
        assert_eq!(value["last_work"]["asked_by"], "/configure");
        let statuses: Vec<_> =
            value["changes"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
        assert_eq!(statuses, ["empty", "configuration_pending", "init", "failed"]);
        assert!(value["unready_reason"].is_string(), "{value}");
    }
}
