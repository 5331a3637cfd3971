//! When the programs beside Postgres are configured (04 §2, 01 §8.1 d to i and §13.2).
//!
//! ```text
//!  start        in_background ─► pgbouncer, local_proxy      (never waited for)
//!               certificate_changed ─► both once more, after the wait for the pair
//!               before_postgres ─► swap ┐
//!                                 quota ┼─ joined ─► Postgres is spawned
//!               audit + log export, GC ─┘
//!  reconfigure  in_background;  before_rewrite ─► log export ─► postgresql.conf is written
//!  renewal      certificate_changed
//! ```
//!
//! Invariant: this module does not know the pipeline, whose values come as arguments, and dropping
//! one of its futures leaves no partial file.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use tokio_util::task::AbortOnDropHandle;

use super::audit_gc;
use super::local_proxy::{LocalProxy, LocalProxyPaths};
use super::pgbouncer::{Pgbouncer, PgbouncerLimits, PgbouncerPaths, Tuning};
use super::rsyslog::{Rsyslog, RsyslogError, RsyslogPaths};
use super::rsyslog_conf::{self, AuditEndpoints, AuditInputs};
use super::vm_helpers::VmHelpers;
use crate::env::Environment;
use crate::os::children::Children;
use crate::spec::ComputeSpec;
use crate::spec::wire::{AuditLogLevel, TlsConfig};
use crate::telemetry::metrics::Metrics;

/// Deadlines of the programs, and how often they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarLimits {
    /// Applying settings to pgbouncer (04 §8).
    pub pgbouncer: PgbouncerLimits,
    /// Wait for a starting local_proxy, which locks its pid file before it writes its number
    /// (04 §9.3).
    pub local_proxy_pid: Duration,
    /// From the end of rsyslogd to a new one; init starts it again (04 §10.2).
    pub rsyslog_restart: Duration,
    /// Swap and disk quota helpers (04 §11, W21).
    pub vm_helper: Duration,
    /// Between two sweeps of old audit files (04 §10.4).
    pub audit_gc_every: Duration,
}

impl Default for SidecarLimits {
    fn default() -> Self {
        Self {
            pgbouncer: PgbouncerLimits::default(),
            local_proxy_pid: Duration::from_secs(1),
            rsyslog_restart: Duration::from_secs(8),
            vm_helper: Duration::from_secs(60),
            audit_gc_every: Duration::from_secs(60),
        }
    }
}

/// Parameters of the side programs from the command line and the environment; the rest is in the
/// spec.
#[derive(Debug, Clone, Default)]
pub struct SidecarParams {
    /// pgbouncer's file and console.
    pub pgbouncer: PgbouncerPaths,
    /// local_proxy's files.
    pub local_proxy: LocalProxyPaths,
    /// rsyslogd and its files.
    pub rsyslog: RsyslogPaths,
    /// Collectors of audit records.
    pub audit: AuditEndpoints,
    /// Programs that set swap and quota.
    pub vm: VmHelpers,
    /// `--resize-swap-on-bind`.
    pub resize_swap: bool,
    /// `--set-disk-quota-for-fs`: the mount point.
    pub quota_mount_point: Option<String>,
}

impl SidecarParams {
    /// The usual paths, and the values of the environment.
    pub fn new(environment: &Environment) -> Self {
        let password = environment.pgbouncer_password.clone();
        Self {
            pgbouncer: PgbouncerPaths::new(environment.autoscaling, password),
            audit: AuditEndpoints {
                plain: environment.audit_endpoint.clone(),
                tls: environment.audit_tls_endpoint.clone(),
            },
            ..Self::default()
        }
    }
}

/// All programs beside Postgres.
#[derive(Debug)]
pub struct Sidecars {
    pgbouncer: Pgbouncer,
    local_proxy: LocalProxy,
    rsyslog: Rsyslog,
    params: SidecarParams,
    limits: SidecarLimits,
    /// The level that forwarding was set up for; none before the start.
    audit_level: OnceLock<AuditLogLevel>,
    /// Removes old audit files once forwarding is set up.
    audit_gc: OnceLock<AbortOnDropHandle<()>>,
}

impl Sidecars {
    /// Touches nothing.
    pub fn new(params: SidecarParams, limits: SidecarLimits) -> Self {
        Self {
            pgbouncer: Pgbouncer::new(params.pgbouncer.clone(), limits.pgbouncer),
            local_proxy: LocalProxy::new(params.local_proxy.clone(), limits.local_proxy_pid),
            rsyslog: Rsyslog::new(params.rsyslog.clone(), limits.rsyslog_restart),
            params,
            limits,
            audit_level: OnceLock::new(),
            audit_gc: OnceLock::new(),
        }
    }

    /// Finds errors of the spec before anything is touched.
    ///
    /// # Errors
    /// The level requires an audit collector and none is usable, or `logs_export_host` is not
    /// `host:port`.
    pub fn check(&self, spec: &ComputeSpec) -> Result<(), RsyslogError> {
        if forwards_audit(spec.audit_log_level) {
            self.params.audit.collector()?;
        }
        export_text(spec).map(drop)
    }

    /// Tunes pgbouncer and configures local_proxy if the spec has settings for them. Returns
    /// at once; errors are logged. `tls` are the certificate's files if TLS is active (04 §7.1).
    pub fn in_background(&self, spec: &ComputeSpec, tls: Option<&TlsConfig>) {
        if let Some(settings) = &spec.pgbouncer_settings {
            let tuning = Tuning { settings: settings.clone(), tls: tls.cloned() };
            self.pgbouncer.tune_in_background(tuning);
        }
        if let Some(config) = &spec.local_proxy_config {
            self.local_proxy.configure_in_background(config, tls);
        }
    }

    /// Handles a certificate that has appeared, or has new content under the same paths: pgbouncer
    /// and local_proxy read it only when they are told (01 §15). Both files are written again, since
    /// an earlier job may have found no key.
    pub fn certificate_changed(&self, spec: &ComputeSpec, tls: Option<&TlsConfig>) {
        if spec.pgbouncer_settings.is_none() {
            // An earlier spec may have made pgbouncer serve it.
            self.pgbouncer.certificate_renewed();
        }
        self.in_background(spec, tls);
    }

    /// Writes local_proxy's file for a start that must not go on without it (04 §9.1 b). Signals
    /// nothing: [`Self::in_background`] does.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn require_local_proxy_file(
        &self,
        spec: &ComputeSpec,
        tls: Option<&TlsConfig>,
    ) -> anyhow::Result<()> {
        let Some(config) = &spec.local_proxy_config else { return Ok(()) };
        self.local_proxy.write(config, tls).context(
            "local_proxy_config cannot be applied, and a primary whose catalog is updated does not \
             start without it: let the user that compute_ctl runs as write the file, or leave the \
             member out",
        )
    }

    /// Does the work that must be over before Postgres starts: swap, quota, rsyslogd.
    ///
    /// # Errors
    /// The first error, with its setting or helper; the other work is cancelled.
    pub async fn before_postgres(
        &self,
        spec: &ComputeSpec,
        pgdata: &Path,
        children: &Children,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        tokio::try_join!(
            self.swap(spec, children),
            self.quota(spec, children),
            self.logs(spec, pgdata, metrics),
        )?;
        Ok(())
    }

    async fn swap(&self, spec: &ComputeSpec, children: &Children) -> anyhow::Result<()> {
        let Some(bytes) = spec.swap_size_bytes.filter(|_| self.params.resize_swap) else {
            return Ok(());
        };
        let resized = self.params.vm.resize_swap(bytes, children, self.limits.vm_helper).await;
        resized.context("failed to resize swap")
    }

    async fn quota(&self, spec: &ComputeSpec, children: &Children) -> anyhow::Result<()> {
        let (Some(bytes), Some(mount_point)) =
            (spec.disk_quota_bytes, &self.params.quota_mount_point)
        else {
            return Ok(());
        };
        let limit = self.limits.vm_helper;
        let set = self.params.vm.set_disk_quota(bytes, mount_point, children, limit).await;
        set.context("failed to set disk quota")
    }

    async fn logs(
        &self,
        spec: &ComputeSpec,
        pgdata: &Path,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        let _ = self.audit_level.set(spec.audit_log_level);
        let log_folder = pgdata.join("log");
        let forwards = forwards_audit(spec.audit_log_level);
        let audit = if forwards { Some(self.audit_text(spec, &log_folder)?) } else { None };
        let export = export_text(spec)?;
        let applied = self.rsyslog.apply(audit.as_deref(), &export).await;
        applied.context(match (forwards, export.is_empty()) {
            (true, true) => "failed to set up audit forwarding (audit_log_level)",
            (true, false) => {
                "failed to set up audit forwarding and log export (audit_log_level, \
                 logs_export_host)"
            }
            (false, _) => EXPORT_FAILED,
        })?;
        if forwards {
            let audit_gc = audit_gc::start(
                log_folder,
                self.params.rsyslog.work_folder.clone(),
                metrics.audit_log_dir_size.clone(),
                self.limits.audit_gc_every,
            );
            // There is only one start, so the cell is empty.
            let _ = self.audit_gc.set(audit_gc);
        }
        Ok(())
    }

    fn audit_text(&self, spec: &ComputeSpec, log_folder: &Path) -> Result<String, RsyslogError> {
        let collector = self.params.audit.collector()?;
        let inputs = AuditInputs {
            log_folder,
            work_folder: &self.params.rsyslog.work_folder,
            endpoint_id: spec.endpoint_id.as_deref().unwrap_or_default(),
            project_id: spec.project_id.as_deref().unwrap_or_default(),
        };
        let (host, port, tls) = (&collector.host, collector.port, collector.tls);
        tracing::info!("audit records go to {host}, port {port}, TLS {tls}");
        Ok(rsyslog_conf::audit(&collector, &inputs))
    }

    /// Sets up the log export, which a reconfiguration needs before it writes `postgresql.conf`.
    ///
    /// # Errors
    /// The new export cannot be set up; the old one stays in force.
    pub async fn before_rewrite(&self, spec: &ComputeSpec) -> anyhow::Result<()> {
        let level = spec.audit_log_level;
        if let Some(before) = self.audit_level.get().filter(|before| **before != level) {
            // Libraries and forwarding are set up at the start only (04 W22).
            tracing::warn!(
                "audit_log_level changes from {before:?} to {level:?}: this takes effect only \
                 when the compute is started again, until then audit records may go nowhere"
            );
        }
        self.rsyslog.apply(None, &export_text(spec)?).await.context(EXPORT_FAILED)
    }
}

const EXPORT_FAILED: &str = "failed to set up the log export (logs_export_host)";

fn export_text(spec: &ComputeSpec) -> Result<String, RsyslogError> {
    Ok(rsyslog_conf::export(spec.logs_export_host.as_deref())?)
}

/// Whether the level writes files of its own, which are sent off the machine (04 §10.1).
const fn forwards_audit(level: AuditLogLevel) -> bool {
    matches!(level, AuditLogLevel::Extended | AuditLogLevel::Full)
}

#[cfg(test)]
mod tests;
