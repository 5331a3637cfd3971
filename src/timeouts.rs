//! The limits of all rooms in one value.
//!
//! Each room defines its own limits, with their reasons; this module only combines them, so that
//! the process has one set of them, and a test can shorten one.

use std::time::Duration;

use crate::catalog::pool::ApplyLimits;
use crate::postgres::limits::PostgresLimits;
use crate::services::extensions::DownloadLimits;
use crate::services::lfc::LfcLimits;
use crate::services::monitor::MonitorLimits;
use crate::sidecars::sidecars::SidecarLimits;
use crate::spec::control_plane::ControlPlaneLimits;
use crate::spec::refetch::RefreshLimits;
use crate::sql::SessionDeadlines;
use crate::sql::dump::DumpLimits;
use crate::sql::standby::PromotionLimits;
use crate::storage::sync::SyncLimits;
use crate::storage::{BasebackupLimits, LeaseLimits};
use crate::tls::WatchLimits;
use crate::vm_monitor::VmMonitorLimits;

/// The limits. `Default` gives the values of production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `--stop-timeout`: everything between the first signal and the exit. Supervisors give 8 to
    /// 10 s before they send SIGKILL.
    pub stop_on_signal: Duration,
    /// The child process: start, stop, reload, helpers.
    pub postgres: PostgresLimits,
    /// The safekeepers (01 §9).
    pub sync: SyncLimits,
    /// The pageserver (06 §3.8).
    pub basebackup: BasebackupLimits,
    /// LSN leases of a static compute (06 §6.3).
    pub lease: LeaseLimits,
    /// Each SQL session.
    pub sql: SessionDeadlines,
    /// An apply of roles and databases (05).
    pub apply: ApplyLimits,
    /// The schema dump (03 §5.5).
    pub dump: DumpLimits,
    /// The TLS certificate (01 §15).
    pub tls: WatchLimits,
    /// The control plane (09 §10).
    pub control_plane: ControlPlaneLimits,
    /// Refreshes of the configuration (01 §13.3).
    pub refresh: RefreshLimits,
    /// Programs beside Postgres (04 §8 to §11).
    pub sidecars: SidecarLimits,
    /// Fetching an extension (07 §3.3).
    pub extensions: DownloadLimits,
    /// Prewarm and offload of the local file cache (07 §4).
    pub lfc: LfcLimits,
    /// Promotion of a replica to a primary (07 §5).
    pub promotion: PromotionLimits,
    /// Watching users' activity (07 §1).
    pub monitor: MonitorLimits,
    /// The VM monitor (08).
    pub vm_monitor: VmMonitorLimits,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            stop_on_signal: Duration::from_secs(7),
            postgres: PostgresLimits::default(),
            sync: SyncLimits::default(),
            basebackup: BasebackupLimits::default(),
            lease: LeaseLimits::default(),
            sql: SessionDeadlines::default(),
            apply: ApplyLimits::default(),
            dump: DumpLimits::default(),
            tls: WatchLimits::default(),
            control_plane: ControlPlaneLimits::default(),
            refresh: RefreshLimits::default(),
            sidecars: SidecarLimits::default(),
            extensions: DownloadLimits::default(),
            lfc: LfcLimits::default(),
            promotion: PromotionLimits::default(),
            monitor: MonitorLimits::default(),
            vm_monitor: VmMonitorLimits::default(),
        }
    }
}
