//! Metrics of the VM monitor (08); registered when it starts, so that other computes have none.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The metrics.
#[derive(Debug, Clone)]
pub struct VmMonitorMetrics {
    connected: IntGauge,
    readable: IntGauge,
    memory: IntGaugeVec,
    threshold: IntGaugeVec,
    cache_wanted: IntGaugeVec,
    cache: IntGaugeVec,
    upscale_requests: IntCounter,
    downscales: IntCounterVec,
    unreadable: IntCounter,
}

impl VmMonitorMetrics {
    /// Registers the families. Fails only if another family has one of the names.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        // Has no labels, but is a vector, so that there is no series before the first value.
        let later = |name, help| IntGaugeVec::new(Opts::new(name, help), &[]);
        let new = Self {
            connected: IntGauge::new(
                "compute_ctl_vm_monitor_connected",
                "1 while an agent is connected to the VM monitor",
            )?,
            readable: IntGauge::new(
                "compute_ctl_vm_monitor_cgroup_readable",
                "1 if the memory of the cgroup could be read the last time",
            )?,
            memory: later(
                "compute_ctl_vm_monitor_cgroup_memory_bytes",
                "Anonymous memory of the cgroup, mean of the last five samples",
            )?,
            threshold: later(
                "compute_ctl_vm_monitor_threshold_bytes",
                "Memory of the cgroup from which on the VM monitor asks for more",
            )?,
            cache_wanted: later(
                "compute_ctl_vm_monitor_file_cache_wanted_bytes",
                "Size of the local file cache that fits the memory of the machine",
            )?,
            cache: later(
                "compute_ctl_vm_monitor_file_cache_bytes",
                "Size of the local file cache that the VM monitor has set",
            )?,
            upscale_requests: IntCounter::new(
                "compute_ctl_vm_monitor_upscale_requests_total",
                "Requests for more memory sent to the agent",
            )?,
            downscales: IntCounterVec::new(
                Opts::new(
                    "compute_ctl_vm_monitor_downscales_total",
                    "Requests of the agent to shrink the machine",
                ),
                &["result"],
            )?,
            unreadable: IntCounter::new(
                "compute_ctl_vm_monitor_unreadable_messages_total",
                "Messages of the agent that could not be read",
            )?,
        };
        for result in ["granted", "refused", "failed"] {
            new.downscales.with_label_values(&[result]);
        }
        registry.register(Box::new(new.connected.clone()))?;
        registry.register(Box::new(new.readable.clone()))?;
        registry.register(Box::new(new.memory.clone()))?;
        registry.register(Box::new(new.threshold.clone()))?;
        registry.register(Box::new(new.cache_wanted.clone()))?;
        registry.register(Box::new(new.cache.clone()))?;
        registry.register(Box::new(new.upscale_requests.clone()))?;
        registry.register(Box::new(new.downscales.clone()))?;
        registry.register(Box::new(new.unreadable.clone()))?;
        Ok(new)
    }

    /// Sets whether an agent is connected.
    pub fn connected(&self, connected: bool) {
        self.connected.set(connected.into());
    }

    /// Sets whether the memory of the cgroup can be read.
    pub fn readable(&self, readable: bool) {
        self.readable.set(readable.into());
        if !readable {
            self.memory.reset();
        }
    }

    /// Sets the memory of the cgroup.
    pub fn memory(&self, bytes: u64) {
        set(&self.memory, bytes);
    }

    /// Sets the threshold.
    pub fn threshold(&self, bytes: u64) {
        set(&self.threshold, bytes);
    }

    /// Sets the wanted size of the file cache.
    pub fn cache_wanted(&self, bytes: u64) {
        set(&self.cache_wanted, bytes);
    }

    /// Sets the size of the file cache in force.
    pub fn cache(&self, bytes: u64) {
        set(&self.cache, bytes);
    }

    /// Counts a request for more memory.
    pub fn upscale_requested(&self) {
        self.upscale_requests.inc();
    }

    /// Counts the outcome of a request to shrink: `granted`, `refused` or `failed`.
    pub fn downscale(&self, result: &str) {
        self.downscales.with_label_values(&[result]).inc();
    }

    /// Counts a message that could not be read.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }
}

fn set(gauge: &IntGaugeVec, bytes: u64) {
    gauge.with_label_values::<&str>(&[]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
}
