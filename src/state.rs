//! The state machine: statuses, the transition table, and the states in which a request is legal
//! (01 §14).
//!
//! Pure code, no locks and no waiting, so that it can be tested exhaustively. Everything that
//! changes the status anywhere in the program is an [`Event`] put through [`transition`].
//!
//! ```text
//!  (no spec)                      (spec at hand)
//!   empty ──configure──► configuration_pending ──┐        │
//!     │                      ▲        │          │        ▼
//!     │            configure │        │ begin    └─────► init ──fail──► failed ◄──────────┐
//!     │          certificate │        ▼                   │               │  ▲            │
//!     │                      │   configuration ───fail────┼───────────────┼──┘            │
//!     │                      │        │ succeed, refuse   │ succeed       │ refresh       │
//!     │                      │        ▼                   │               ▼               │
//!     │                      └───── running ◄─────────────┘   refresh_configuration_pending
//!     │                           │   │  ▲                             │  ▲
//!     │                           │   │  └────succeed──┐         begin │  │ fail, refresh
//!     │                           │   └──refresh───────┼──►(pending)   ▼  │
//!     │ terminate                 │                refresh_configuration ─┘
//!     ▼                           ▼ terminate, Postgres exits (also from failed, refresh…)
//!   termination_pending_fast / termination_pending_immediate ──► terminated
//! ```
//!
//! A signal leads from every state but `terminated` to `termination_pending_immediate`. Two things
//! are not in the original: `/terminate` is accepted in `failed` and in the refresh states, and a
//! Postgres that exits by itself is visible at once (01 §24 nos. 4 and 24).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Status of a compute. JSON in snake case; [`fmt::Display`] is the form of error texts, log lines
/// and the `compute_ctl_up` label, and is an interface too (01 §14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComputeStatus {
    /// No spec yet.
    Empty,
    /// A new spec or certificate waits to be applied.
    ConfigurationPending,
    /// First start in progress.
    Init,
    /// Configured, Postgres up.
    Running,
    /// Reconfiguration in progress.
    Configuration,
    /// Start or reconfiguration failed.
    Failed,
    /// On the way out, the process stays 30 s after the end.
    TerminationPendingFast,
    /// On the way out, the process ends right after.
    TerminationPendingImmediate,
    /// Postgres gone, safekeepers synced, about to exit.
    Terminated,
    /// A refresh was asked for.
    RefreshConfigurationPending,
    /// Refresh in progress.
    RefreshConfiguration,
}

impl ComputeStatus {
    /// All statuses, in the order of the document.
    pub const ALL: [Self; 11] = [
        Self::Empty,
        Self::ConfigurationPending,
        Self::Init,
        Self::Running,
        Self::Configuration,
        Self::Failed,
        Self::TerminationPendingFast,
        Self::TerminationPendingImmediate,
        Self::Terminated,
        Self::RefreshConfigurationPending,
        Self::RefreshConfiguration,
    ];

    /// Name in JSON documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ConfigurationPending => "configuration_pending",
            Self::Init => "init",
            Self::Running => "running",
            Self::Configuration => "configuration",
            Self::Failed => "failed",
            Self::TerminationPendingFast => "termination_pending_fast",
            Self::TerminationPendingImmediate => "termination_pending_immediate",
            Self::Terminated => "terminated",
            Self::RefreshConfigurationPending => "refresh_configuration_pending",
            Self::RefreshConfiguration => "refresh_configuration",
        }
    }

    /// Postgres runs and nothing is being changed.
    pub const fn is_at_rest(self) -> bool {
        matches!(self, Self::Running | Self::Failed | Self::RefreshConfigurationPending)
    }

    /// On the way out or out: no request changes anything any more.
    pub const fn is_ending(self) -> bool {
        matches!(
            self,
            Self::TerminationPendingFast | Self::TerminationPendingImmediate | Self::Terminated
        )
    }
}

impl fmt::Display for ComputeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::ConfigurationPending => "configuration-pending",
            Self::Init => "init",
            Self::Running => "running",
            Self::Configuration => "configuration",
            Self::Failed => "failed",
            Self::TerminationPendingFast => "termination-pending-fast",
            Self::TerminationPendingImmediate => "termination-pending-immediate",
            Self::Terminated => "terminated",
            Self::RefreshConfigurationPending => "refresh-configuration-pending",
            Self::RefreshConfiguration => "refresh-configuration",
        })
    }
}

/// How long the process lives on after `/terminate` (01 §18.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminateMode {
    /// 30 s, so that the control plane can still ask.
    #[default]
    Fast,
    /// Just long enough to deliver the answer.
    Immediate,
}

/// Everything that can change the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// `/configure` with a valid spec.
    Configure,
    /// The TLS certificate on disk changed.
    CertificateChanged,
    /// The first spec is being applied.
    BeginStart,
    /// A pending spec or certificate is being applied to a running Postgres.
    BeginConfiguration,
    /// `/refresh_configuration`.
    Refresh,
    /// A pending refresh is being worked on.
    BeginRefresh,
    /// The work in progress succeeded.
    Succeeded,
    /// The work in progress failed.
    Failed,
    /// A spec was refused before anything of the running Postgres was changed.
    Refused,
    /// `/terminate`.
    Terminate(TerminateMode),
    /// Postgres ended without having been asked to.
    PostgresExited,
    /// SIGINT, SIGTERM or SIGQUIT.
    Signal,
    /// Postgres is reaped and the safekeepers were synced, or there was nothing to do.
    Ended,
}

impl Event {
    /// Every event, with `/terminate` once for each mode.
    pub const ALL: [Self; 14] = [
        Self::Configure,
        Self::CertificateChanged,
        Self::BeginStart,
        Self::BeginConfiguration,
        Self::Refresh,
        Self::BeginRefresh,
        Self::Succeeded,
        Self::Failed,
        Self::Refused,
        Self::Terminate(TerminateMode::Fast),
        Self::Terminate(TerminateMode::Immediate),
        Self::PostgresExited,
        Self::Signal,
        Self::Ended,
    ];
}

/// The transition table. `None`: the event is not legal in that state and changes nothing.
pub const fn transition(from: ComputeStatus, event: Event) -> Option<ComputeStatus> {
    use ComputeStatus as S;
    let to = match (from, event) {
        (S::Empty | S::Running, Event::Configure) => S::ConfigurationPending,
        (S::Running | S::ConfigurationPending, Event::CertificateChanged) => {
            S::ConfigurationPending
        }

        (S::Empty | S::ConfigurationPending, Event::BeginStart) => S::Init,
        (S::ConfigurationPending, Event::BeginConfiguration) => S::Configuration,
        (S::Init | S::Configuration | S::RefreshConfiguration, Event::Succeeded) => S::Running,
        (S::Init | S::Configuration, Event::Failed) => S::Failed,
        (S::Configuration, Event::Refused) => S::Running,

        (S::Running | S::Failed | S::RefreshConfigurationPending, Event::Refresh) => {
            S::RefreshConfigurationPending
        }
        // Accepted without effect: a compute that is starting is not refreshed.
        (S::Init, Event::Refresh) => S::Init,
        (S::RefreshConfigurationPending, Event::BeginRefresh) => S::RefreshConfiguration,
        (S::RefreshConfiguration, Event::Failed) => S::RefreshConfigurationPending,

        (
            S::Empty
            | S::Running
            | S::Failed
            | S::RefreshConfigurationPending
            | S::RefreshConfiguration,
            Event::Terminate(mode),
        ) => match mode {
            TerminateMode::Fast => S::TerminationPendingFast,
            TerminateMode::Immediate => S::TerminationPendingImmediate,
        },
        (
            S::Running
            | S::Failed
            | S::ConfigurationPending
            | S::Configuration
            | S::RefreshConfigurationPending
            | S::RefreshConfiguration,
            Event::PostgresExited,
        ) => S::TerminationPendingImmediate,
        // The mode that was asked for is kept.
        (S::TerminationPendingFast, Event::PostgresExited | Event::Signal) => {
            S::TerminationPendingFast
        }
        (S::TerminationPendingImmediate, Event::PostgresExited | Event::Signal) => {
            S::TerminationPendingImmediate
        }
        (S::Terminated, Event::Signal) => S::Terminated,
        (_, Event::Signal) => S::TerminationPendingImmediate,
        (S::TerminationPendingFast | S::TerminationPendingImmediate, Event::Ended) => S::Terminated,
        _ => return None,
    };
    Some(to)
}

#[cfg(test)]
mod tests;
