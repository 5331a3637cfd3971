//! What the program is, and what its process uses: the usual families of Prometheus' clients.
//!
//! Not the collector of the `prometheus` crate: it brings a second generation of crates for `/proc`
//! and system calls.

use std::time::SystemTime;

use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec, Opts, Registry};

use crate::os::{limits, usage};

/// Commit that the program was built from; `unknown` without git.
pub(crate) const GIT_HASH: &str = env!("COMPUTE_CTL_GIT_HASH");

/// Label `postgres` before the server in use is known.
const UNKNOWN: &str = "unknown";

/// The families.
#[derive(Debug, Clone)]
pub(super) struct ProcessMetrics {
    build: IntGaugeVec,
    cpu: Counter,
    resident: IntGauge,
    virtual_: IntGauge,
    threads: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
}

impl ProcessMetrics {
    /// Registers the families. Fails only if another family has one of the names. The process has
    /// just started.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let new = Self {
            build: IntGaugeVec::new(
                Opts::new(
                    "compute_ctl_build_info",
                    "Always 1; the labels tell the versions of the program and of Postgres",
                ),
                &["version", "git", "postgres"],
            )?,
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "Processor time of compute_ctl, without Postgres",
            )?,
            resident: IntGauge::new(
                "process_resident_memory_bytes",
                "Resident memory of compute_ctl, without Postgres",
            )?,
            virtual_: IntGauge::new(
                "process_virtual_memory_bytes",
                "Address space of compute_ctl, without Postgres",
            )?,
            threads: IntGauge::new("process_threads", "Threads of compute_ctl")?,
            open_fds: IntGauge::new("process_open_fds", "Open descriptors of compute_ctl")?,
            max_fds: IntGauge::new("process_max_fds", "Descriptors that compute_ctl may open")?,
        };
        let started = Gauge::new("process_start_time_seconds", "When compute_ctl started")?;
        started.set(seconds(SystemTime::now()));
        new.max_fds.set(number(limits::descriptor_limit()));
        new.set_postgres(UNKNOWN);
        registry.register(Box::new(started))?;
        registry.register(Box::new(new.build.clone()))?;
        registry.register(Box::new(new.cpu.clone()))?;
        for gauge in [&new.resident, &new.virtual_, &new.threads, &new.open_fds, &new.max_fds] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(new)
    }

    /// Sets the version of Postgres in the series of the build. The caller locks out scrapes.
    pub(super) fn set_postgres(&self, version: &str) {
        self.build.reset();
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION"), GIT_HASH, version]).set(1);
    }

    /// Looks at the process. Without `/proc` the values stay as they are.
    pub(super) fn look(&self) {
        if let Some(usage) = usage::of_this_process() {
            // A counter only grows; the clock behind it does, too.
            self.cpu.inc_by((usage.cpu_seconds - self.cpu.get()).max(0.0));
            self.resident.set(number(usage.resident_bytes));
            self.virtual_.set(number(usage.virtual_bytes));
            self.threads.set(number(usage.threads));
        }
        if let Some(open) = usage::open_descriptors() {
            self.open_fds.set(number(open));
        }
    }
}

/// Seconds since the epoch.
pub(super) fn seconds(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
