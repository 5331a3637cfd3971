//! What the VM monitor shows of itself: metrics and the member `extra.vm_monitor` of `/status`. It
//! also holds the threshold, which every connection reads, and says a lasting fault once.

use std::net::SocketAddr;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use super::cgroup::CgroupError;
use crate::duration::with_z;
use crate::errors::one_line;
use crate::telemetry::vm_monitor_metrics::VmMonitorMetrics;

/// Member `extra.vm_monitor` of `/status`; only with `AUTOSCALING`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct VmMonitorStatus {
    /// Address that it serves; null while it cannot.
    #[schema(required)]
    pub address: Option<String>,
    /// Why it does not serve that address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The agent that is connected.
    #[schema(required)]
    pub agent: Option<AgentStatus>,
    /// The cgroup that it watches.
    pub cgroup: CgroupStatus,
    /// Use of memory from which on it asks for more, in bytes.
    #[schema(required)]
    pub threshold_bytes: Option<u64>,
    /// The local file cache; null with `disable_lfc_resizing`.
    #[schema(required)]
    pub file_cache: Option<FileCacheStatus>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentStatus {
    /// Its address.
    pub address: String,
    /// When it connected.
    #[serde(serialize_with = "with_z")]
    #[schema(value_type = String, format = DateTime)]
    pub since: DateTime<Utc>,
}

/// The cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CgroupStatus {
    /// Its folder.
    pub path: String,
    /// Mean of the last samples, in bytes.
    #[schema(required)]
    pub memory_bytes: Option<u64>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The local file cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileCacheStatus {
    /// Size that fits the memory, in bytes.
    #[schema(required)]
    pub wanted_bytes: Option<u64>,
    /// Size that was last set, in bytes.
    #[schema(required)]
    pub bytes: Option<u64>,
    /// Why the last change failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The present state. Shared by all tasks of the monitor, and by the node.
#[derive(Debug)]
pub struct Board {
    metrics: VmMonitorMetrics,
    status: Mutex<VmMonitorStatus>,
    /// The last failure of a set-up, so that agents that try again and again fill no log.
    set_up_failure: Mutex<Option<String>>,
}

impl Board {
    pub(super) fn new(metrics: VmMonitorMetrics) -> Self {
        Self { metrics, status: Mutex::default(), set_up_failure: Mutex::default() }
    }

    /// The present state.
    pub fn status(&self) -> VmMonitorStatus {
        self.status.lock().clone()
    }

    /// Says what is watched and managed.
    pub(super) fn begins(&self, cgroup: String, manages_cache: bool) {
        let mut status = self.status.lock();
        status.cgroup.path = cgroup;
        status.file_cache = manages_cache.then(FileCacheStatus::default);
    }

    pub(super) fn listens(&self, address: Result<SocketAddr, String>) {
        let mut status = self.status.lock();
        (status.address, status.error) = match address {
            Ok(address) => (Some(address.to_string()), None),
            Err(error) => (None, Some(error)),
        };
    }

    pub(super) fn agent(&self, address: Option<SocketAddr>) {
        self.metrics.connected(address.is_some());
        self.status.lock().agent =
            address.map(|address| AgentStatus { address: address.to_string(), since: Utc::now() });
    }

    /// Notes whether the cgroup could be read; a change goes to the log.
    pub(super) fn cgroup(&self, error: Option<&CgroupError>) {
        self.metrics.readable(error.is_none());
        let mut status = self.status.lock();
        let cgroup = &mut status.cgroup;
        let Some(error) = error else {
            if cgroup.error.take().is_some() {
                tracing::info!("the memory of the cgroup {} can be read now", cgroup.path);
            }
            return;
        };
        let text = one_line(error);
        cgroup.memory_bytes = None;
        if cgroup.error.as_ref() != Some(&text) {
            tracing::error!(
                "the memory of the cgroup is not watched: {text}; no memory is asked for and none \
                 is given back until it can be read"
            );
            cgroup.error = Some(text);
        }
    }

    pub(super) fn memory(&self, bytes: u64) {
        self.metrics.memory(bytes);
        self.status.lock().cgroup.memory_bytes = Some(bytes);
    }

    pub(super) fn threshold(&self) -> Option<u64> {
        self.status.lock().threshold_bytes
    }

    pub(super) fn set_threshold(&self, bytes: u64) {
        self.metrics.threshold(bytes);
        self.status.lock().threshold_bytes = Some(bytes);
    }

    /// Notes the outcome of a change of the cache.
    pub(super) fn cache(&self, wanted: u64, outcome: Result<u64, String>) {
        self.metrics.cache_wanted(wanted);
        let mut status = self.status.lock();
        let cache = status.file_cache.get_or_insert_default();
        cache.wanted_bytes = Some(wanted);
        match outcome {
            Ok(bytes) => {
                self.metrics.cache(bytes);
                (cache.bytes, cache.error) = (Some(bytes), None);
            }
            Err(error) => cache.error = Some(error),
        }
    }

    pub(super) fn set_up(&self, outcome: Result<(), &String>) {
        let mut last = self.set_up_failure.lock();
        match outcome {
            Ok(()) => *last = None,
            Err(error) if last.as_ref() == Some(error) => {
                tracing::debug!("the VM monitor still cannot be set up: {error}");
            }
            Err(error) => {
                tracing::error!("could not set up the VM monitor for its agent: {error}");
                *last = Some(error.clone());
            }
        }
    }

    pub(super) fn upscale_requested(&self) {
        self.metrics.upscale_requested();
    }

    pub(super) fn downscale(&self, result: &str) {
        self.metrics.downscale(result);
    }

    pub(super) fn unreadable(&self) {
        self.metrics.unreadable();
    }
}
