//! Phases of the start, for progress, timings, and the tests that interrupt each of them.

use std::fmt;
use std::time::Duration;

use crate::failpoints::edges::Point;

/// A part of the start that takes time of its own. Some overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartPhase {
    /// Waiting for the key and certificate of Postgres.
    Certificate,
    /// Swap, disk quota and rsyslogd are set up.
    SideServices,
    /// A postmaster left behind by a killed predecessor is stopped.
    StaleProcesses,
    /// PGDATA is wiped and `postgresql.conf` written.
    PrepareDirectory,
    /// The safekeepers are asked whether they agree.
    SafekeeperCheck,
    /// `postgres --sync-safekeepers` makes them agree.
    SafekeeperSync,
    /// The basebackup is fetched and unpacked.
    Basebackup,
    /// Postgres starts and recovers.
    StartPostgres,
    /// Roles and databases are applied.
    ApplyCatalog,
}

impl StartPhase {
    /// All phases, in the order in which they begin.
    pub const ALL: [Self; 9] = [
        Self::Certificate,
        Self::SideServices,
        Self::StaleProcesses,
        Self::PrepareDirectory,
        Self::SafekeeperCheck,
        Self::SafekeeperSync,
        Self::Basebackup,
        Self::StartPostgres,
        Self::ApplyCatalog,
    ];

    /// Name in the log, in metrics and in `/status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::SideServices => "side_services",
            Self::StaleProcesses => "stale_processes",
            Self::PrepareDirectory => "prepare_directory",
            Self::SafekeeperCheck => "safekeeper_check",
            Self::SafekeeperSync => "safekeeper_sync",
            Self::Basebackup => "basebackup",
            Self::StartPostgres => "start_postgres",
            Self::ApplyCatalog => "apply_catalog",
        }
    }

    /// Its failpoints.
    pub(crate) const fn point(self) -> Point {
        Point { work: "start", step: self.name() }
    }
}

impl fmt::Display for StartPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One phase as it happened.
#[derive(Debug, Clone, Copy)]
pub struct PhaseRecord {
    /// Which.
    pub phase: StartPhase,
    /// Since `start_time`.
    pub began: Duration,
    /// `None` while the phase is in progress.
    pub took: Option<Duration>,
}
