//! Requests to the driver, and its answers.

use thiserror::Error;
use tokio::sync::oneshot;

use super::accepted::AcceptedSpec;
use crate::spec::Lsn;
use crate::state::ComputeStatus;
use crate::telemetry::traces::Parent;

/// A request that was found legal and has already changed the status. Each carries the sender of
/// its answer; a driver that ends drops the sender, which the caller sees as `Interrupted`.
#[derive(Debug)]
pub enum Request {
    /// Apply a spec: the first one of an empty compute, or a new one of a running compute.
    Configure {
        /// The complete new spec.
        spec: AcceptedSpec,
        /// Look into every database at once, and not in the background (05 §7.9b). A start looks
        /// in the background in any case.
        look_everywhere: bool,
        /// Place of the request in its trace.
        from: Parent,
        /// Receives the outcome: the compute runs with the spec, or does not.
        reply: oneshot::Sender<Result<(), ConfigureError>>,
    },
    /// End the compute. The mode is in the status.
    Terminate {
        /// Place of the request in its trace.
        from: Parent,
        /// Receives the answer when the compute is `terminated`.
        reply: oneshot::Sender<Terminated>,
    },
}

/// The answer to a `/terminate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminated {
    /// What the last safekeeper sync printed; `None` for a compute that is not a primary, never ran
    /// Postgres, or whose sync failed.
    pub lsn: Option<Lsn>,
}

/// A request that is not legal in the present state (03 §3.4).
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("invalid compute status: {0}")]
pub struct WrongStatus(
    /// The present state.
    pub ComputeStatus,
);

/// Why `/configure` did not end in `running`.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ConfigureError {
    /// Not possible in the present state, nothing changed.
    #[error(transparent)]
    WrongStatus(#[from] WrongStatus),
    /// The spec cannot be used, nothing changed; the text has the causes in one line.
    #[error("{0}")]
    Refused(String),
    /// The spec may be good, but nothing could be changed; the text has the causes in one line.
    #[error("{0}")]
    NotBegun(String),
    /// Tried; the text is that of `/status`.
    #[error("compute configuration failed: {0:?}")]
    Failed(String),
    /// The compute ended before it applied the spec.
    #[error("the compute is ending, the configuration was not applied")]
    Interrupted,
}

/// Outcome of a `/terminate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminateAnswer {
    /// This request ended the compute.
    Now(Terminated),
    /// It had ended before.
    Before(Terminated),
    /// A signal ended the process before the compute was `terminated`.
    Interrupted,
}
