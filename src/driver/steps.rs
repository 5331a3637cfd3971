//! The steps of the driver's work beside the start: their names in `/status` and in error texts, and
//! their failpoints. The steps of a start are [`StartPhase`](crate::node::phase::StartPhase).

use std::fmt::{self, Display};

use crate::failpoints::edges::Point;
use crate::node::outcome::CHECK;

/// A phase of a reconfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconfigurePhase {
    /// A refresh asks for the configuration.
    Fetch,
    /// Another key and certificate take effect.
    Certificate,
    /// The new file is built, and the `postgres` program checks it.
    Check,
    /// The log export is set up.
    LogExport,
    /// The new file takes the place of the old one.
    Write,
    /// Postgres loads it.
    Reload,
    /// Roles and databases are applied.
    Catalog,
}

impl ReconfigurePhase {
    /// All phases.
    pub const ALL: [Self; 7] = [
        Self::Fetch,
        Self::Certificate,
        Self::Check,
        Self::LogExport,
        Self::Write,
        Self::Reload,
        Self::Catalog,
    ];

    /// Name in `/status` and in error texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch_configuration",
            Self::Certificate => "certificate",
            Self::Check => CHECK,
            Self::LogExport => "log_export",
            Self::Write => "write_configuration",
            Self::Reload => "reload",
            Self::Catalog => "apply_catalog",
        }
    }

    /// Its failpoints.
    pub(crate) const fn point(self) -> Point {
        Point { work: "reconfigure", step: self.name() }
    }
}

impl Display for ReconfigurePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A step of an attempt to promote. What follows are phases of a reconfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromotePhase {
    /// The WAL of the old primary is replayed.
    WaitForWal,
    /// The safekeepers are set with `ALTER SYSTEM`, which overrides the configuration file.
    SetSafekeepers,
    /// The server leaves recovery.
    PgPromote,
}

impl PromotePhase {
    /// All steps, in their order.
    pub const ALL: [Self; 3] = [Self::WaitForWal, Self::SetSafekeepers, Self::PgPromote];

    /// Name in `/status` and in error texts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WaitForWal => "wait_for_wal",
            Self::SetSafekeepers => "set_safekeepers",
            Self::PgPromote => "pg_promote",
        }
    }

    /// Its failpoints.
    pub(crate) const fn point(self) -> Point {
        Point { work: "promote", step: self.name() }
    }
}

/// A step of the end of a compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndingStep {
    /// The tasks beside the driver end.
    Background,
    /// Postgres is stopped and reaped, its log read to the end.
    Postgres,
    /// `postgres --sync-safekeepers` runs once.
    Sync,
    /// The callers of `/terminate` get their answer.
    Answer,
    /// Core dumps are looked for.
    CoreDumps,
    /// The process stays, so that its status can be fetched.
    Linger,
}

impl EndingStep {
    /// All steps, in their order.
    pub const ALL: [Self; 6] =
        [Self::Background, Self::Postgres, Self::Sync, Self::Answer, Self::CoreDumps, Self::Linger];

    /// Name of its failpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::Postgres => "stop_postgres",
            Self::Sync => "sync",
            Self::Answer => "answer",
            Self::CoreDumps => "core_dumps",
            Self::Linger => "linger",
        }
    }

    /// Its failpoints.
    pub(crate) const fn point(self) -> Point {
        Point { work: "ending", step: self.name() }
    }
}
