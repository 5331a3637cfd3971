//! State that the handlers of one server share.

use std::sync::Arc;

use utoipa_axum::router::UtoipaMethodRouter;

use super::budget::{Bytes, CommunicatorPlaces, LongPolls};
use super::limits::HttpLimits;
use super::ready::ReadyProbe;
use crate::node::ComputeNode;
use crate::server::ServerTasks;

/// State of the handlers of one server.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) node: Arc<ComputeNode>,
    pub(super) limits: HttpLimits,
    /// For work that goes on when its client leaves.
    pub(super) tasks: ServerTasks,
    pub(super) ready: Arc<ReadyProbe>,
    pub(super) communicator: CommunicatorPlaces,
    pub(super) bodies: Bytes,
    pub(super) polls: LongPolls,
}

impl Api {
    /// State of one server, with full budgets.
    pub(super) fn of(node: Arc<ComputeNode>, limits: HttpLimits, tasks: ServerTasks) -> Self {
        Self {
            node,
            limits,
            tasks,
            ready: Arc::default(),
            communicator: CommunicatorPlaces::default(),
            bodies: Bytes::new(limits.bodies_bytes),
            polls: LongPolls::of(limits.server.connections),
        }
    }
}

/// Routes of one group, each with its description. A path may appear in several groups, with
/// different methods.
pub(super) type Routes = Vec<UtoipaMethodRouter<Api>>;
