//! Why a compute ends (01 §18). The end itself is in [`ending`](super::ending).

use std::process::ExitStatus;

use tokio::sync::oneshot;

use super::task::ConfigureReply;
use crate::node::readiness::Unready;
use crate::node::requests::Terminated;
use crate::postgres::process::PostgresProcess;
use crate::telemetry::traces::{Parent, Span};

/// Why the compute ends, with the parts of it that still exist.
#[derive(Debug)]
pub(super) enum Ending {
    /// `/terminate` of an empty compute.
    NeverStarted {
        /// Place of the request in its trace.
        from: Parent,
        /// Receives the answer to the request.
        reply: oneshot::Sender<Terminated>,
    },
    /// The first start failed.
    StartFailed {
        /// Why.
        error: anyhow::Error,
        /// Present if the start got that far; Postgres may have ended by itself.
        postgres: Option<PostgresProcess>,
        /// Receives the outcome of `/configure`, if that brought the spec.
        reply: ConfigureReply,
        /// Place of the start in its trace.
        from: Parent,
    },
    /// Postgres ended by itself.
    PostgresExited {
        /// The exit status of Postgres.
        status: std::io::Result<ExitStatus>,
        /// Reaped, its log not yet drained.
        postgres: PostgresProcess,
    },
    /// `/terminate` of a running compute.
    Terminate {
        /// Still running.
        postgres: PostgresProcess,
        /// Place of the request in its trace.
        from: Parent,
        /// Receives the answer to the request.
        reply: oneshot::Sender<Terminated>,
    },
    /// A refresh found no spec.
    Detached {
        /// Still running.
        postgres: PostgresProcess,
    },
    /// SIGINT, SIGTERM or SIGQUIT.
    Signal {
        /// Present if Postgres was running.
        postgres: Option<PostgresProcess>,
    },
}

impl Ending {
    /// What `/ready` says from now on.
    pub(super) const fn unready(&self) -> Unready {
        match self {
            Self::StartFailed { .. } => Unready::StartFailed,
            Self::PostgresExited { .. } => Unready::PostgresEnded,
            Self::NeverStarted { .. }
            | Self::Terminate { .. }
            | Self::Detached { .. }
            | Self::Signal { .. } => Unready::Ending,
        }
    }

    /// The span of the end: a part of the trace of `/terminate`, if that is the reason.
    pub(super) fn span(&self) -> Span {
        let nowhere = Parent::default();
        let (from, name, why) = match self {
            Self::NeverStarted { from, .. } | Self::Terminate { from, .. } => {
                (from, "terminate", "terminate")
            }
            Self::StartFailed { .. } => (&nowhere, "shutdown", "start_failed"),
            Self::PostgresExited { .. } => (&nowhere, "shutdown", "postgres_exited"),
            Self::Detached { .. } => (&nowhere, "shutdown", "detached"),
            Self::Signal { .. } => (&nowhere, "shutdown", "signal"),
        };
        let span = from.span(name);
        span.set("compute.ending", why);
        span
    }
}
