//! What the connections of a VM monitor share.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::limits::VmMonitorLimits;
use super::policy::Summary;
use super::scaler::Job;
use crate::background::Background;

/// Shared by the connections.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: VmMonitorLimits,
    pub(super) board: Arc<Board>,
    pub(super) jobs: mpsc::UnboundedSender<Job>,
    pub(super) summaries: watch::Receiver<Summary>,
    pub(super) background: Background,
    /// Cancelled when another connection takes the place of the present one.
    pub(super) present: Mutex<CancellationToken>,
}

impl Shared {
    /// Ends the present connection. The new one ends when the returned token is cancelled.
    pub(super) fn take_over(&self) -> CancellationToken {
        let new = CancellationToken::new();
        std::mem::replace(&mut *self.present.lock(), new.clone()).cancel();
        new
    }
}
