//! The state that only the driver holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::shutdown::Stop;
use crate::node::requests::{ConfigureError, Request, Terminated};
use crate::node::{AcceptedSpec, ComputeNode};
use crate::startup::Leftovers;
use crate::telemetry::traces::Span;
use crate::tls::TlsState;
use crate::vm_monitor::{RunningVmMonitor, VmMonitor};

/// Logged when `/configure` was accepted: dashboards look for the texts of the original.
pub(super) const GOT_REQUEST: &str = "got configuration request";

/// Answer of a compute whose end has no LSN.
pub(super) const NO_LSN: Terminated = Terminated { lsn: None };

/// Receives the outcome of the first start.
pub(super) type ConfigureReply = Option<oneshot::Sender<Result<(), ConfigureError>>>;

/// The driver's task and its own state.
#[derive(Debug)]
pub struct Driver {
    pub(super) node: Arc<ComputeNode>,
    /// The spec that the process was started with, until the start begins.
    pub(super) first: Option<AcceptedSpec>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) stop: Stop,
    pub(super) leftovers: Leftovers,
    pub(super) tls: TlsState,
    /// Deadline by which the compute must have been `running` once; in Lakebase mode only.
    pub(super) init_deadline: Option<InitDeadline>,
    /// Reserved until the compute runs; with `AUTOSCALING` only.
    pub(super) reserved_monitor: Option<VmMonitor>,
    /// Serves from then on until Postgres has ended.
    pub(super) vm_monitor: Option<RunningVmMonitor>,
    /// The span of the end, once that has begun.
    pub(super) end_span: Span,
}

/// `--pg-init-timeout`, counted from the beginning of the start (01 §26, 07 §18).
#[derive(Debug, Clone, Copy)]
pub(super) struct InitDeadline {
    pub(super) limit: Duration,
    pub(super) at: Instant,
}

impl InitDeadline {
    /// Resolves when the deadline has passed; never if there is none.
    pub(super) async fn passed(deadline: Option<Self>) -> anyhow::Error {
        let Some(Self { limit, at }) = deadline else { return std::future::pending().await };
        tokio::time::sleep_until(at).await;
        let limit = limit.as_secs();
        anyhow::anyhow!("compute did not enter Running state in {limit} seconds, exiting")
    }
}

pub(super) fn init_deadline(node: &ComputeNode) -> Option<InitDeadline> {
    let limit = node.params.lakebase.as_ref()?.init_timeout;
    // A deadline beyond the clock's range never passes.
    Some(InitDeadline { limit, at: Instant::now().checked_add(limit)? })
}
