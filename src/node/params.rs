//! The parameters that are fixed for the life of the process, from the command line, the
//! environment and the first configuration. Invariant: nothing here changes.

use std::net::SocketAddr;
use std::path::PathBuf;

use url::{Host, Url};

use super::Lakebase;
use super::accepted::AcceptedSpec;
use super::conf_params::{ConfParams, POSTGRES_PORT};
use super::port::{OtherPort, check_port};
use crate::os::host_name::host_name;
use crate::postgres::conf::ConfError;
use crate::postgres::install::PgInstall;
use crate::secret::Secret;
use crate::sidecars::sidecars::SidecarParams;
use crate::spec::source::ConfigSource;
use crate::spec::wire::TlsConfig;
use crate::spec::{ComputeSpec, ParsedSpec};
use crate::sql::{SessionConfig, SessionError, session_config};
use crate::telemetry::metrics::{Attachment, Metrics};
use crate::timeouts::Timeouts;
use crate::tls;

/// Names of this machine in `Host`.
#[derive(Debug, Clone, Default)]
pub struct HostNames {
    /// The one that the machine has itself; absent if it has none that can be read.
    pub own: Option<String>,
    /// `--internal-http-host`.
    pub given: Vec<String>,
}

impl HostNames {
    /// The present name of this machine, and those that the operator gives.
    pub fn with(given: &[String]) -> Self {
        Self { own: host_name(), given: given.to_vec() }
    }
}

/// Fixed for the life of the process.
#[derive(Debug)]
pub struct ComputeParams {
    /// `--compute-id`; absent only in the older `--spec` form.
    pub compute_id: Option<String>,
    /// `--pgdata`, absolute.
    pub pgdata: PathBuf,
    /// `--connstr`. May carry a password: never logged.
    pub connstr: Url,
    /// The Postgres installation behind `--pgbin`.
    pub install: PgInstall,
    /// `--privileged-role-name`.
    pub privileged_role_name: String,
    /// `--internal-http-port`, or the port that Lakebase mode derives from `--http-port`.
    pub internal_http_port: u16,
    /// Names by which the servers know this machine where they ask for no token.
    pub host_names: HostNames,
    /// Where the configuration came from; a refresh reads it again.
    pub source: ConfigSource,
    /// `--force-wipe`: PGDATA may hold anything.
    pub force_wipe: bool,
    /// `--dev`: pgbouncer and local_proxy are left alone, loopback needs no token without keys.
    pub dev: bool,
    /// Key and certificate of Postgres and its neighbours, from the configuration that the process
    /// was started with (04 §7.1).
    pub tls: Option<TlsConfig>,
    /// `--lakebase-mode true`.
    pub lakebase: Option<Lakebase>,
    /// `AUTOSCALING` is in the environment: children run in the cgroup.
    pub autoscaling: bool,
    /// `NEON_CONTROL_PLANE_TOKEN`, whatever the source of the configuration is: for the postmaster
    /// and the sync of the safekeepers.
    pub control_plane_token: Option<Secret<String>>,
    /// `--signal-exit-code`.
    pub signal_exit_code: u8,
    /// `--remote-ext-base-url`.
    pub remote_ext_base_url: Option<Url>,
    /// `--installed-extensions-collection-interval`, in seconds.
    pub extension_stats_interval: u64,
    /// Programs beside Postgres.
    pub side: SidecarParams,
    /// All deadlines.
    pub timeouts: Timeouts,
}

#[cfg(test)]
impl ComputeParams {
    /// Parameters for unit tests: no path or server that they name exists.
    pub(crate) fn for_tests() -> Self {
        Self {
            compute_id: Some("c1".to_owned()),
            pgdata: "/nonexistent".into(),
            connstr: Url::parse("postgresql://cloud_admin@localhost/postgres").unwrap(),
            install: PgInstall::for_tests(),
            privileged_role_name: "neon_superuser".to_owned(),
            internal_http_port: 0,
            host_names: HostNames::default(),
            source: ConfigSource::ConfigFile("/nonexistent".into()),
            tls: None,
            lakebase: None,
            force_wipe: false,
            dev: false,
            autoscaling: false,
            control_plane_token: None,
            signal_exit_code: 1,
            remote_ext_base_url: None,
            extension_stats_interval: 3600,
            side: crate::sidecars::sidecars::SidecarParams::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl ComputeParams {
    /// The certificate's files, if TLS is active for a spec (04 §7.1).
    pub fn active_tls(&self, spec: &ComputeSpec) -> Option<&TlsConfig> {
        tls::active_config(self.tls.as_ref(), spec)
    }

    /// Settings of hardened sessions on the managed Postgres.
    ///
    /// # Errors
    /// `--connstr` is not a URL of Postgres.
    pub fn session(&self, application_name: &str) -> Result<SessionConfig, SessionError> {
        session_config(self.connstr.as_str(), application_name, self.install.version)
    }

    /// Sets the metric that shows what the compute is attached to, in Lakebase mode with an
    /// instance id (03 §14).
    pub(super) fn show_attached(&self, metrics: &Metrics, spec: &ParsedSpec) {
        let instance_id = self.lakebase.as_ref().map_or("", |lakebase| &*lakebase.instance_id);
        if !instance_id.is_empty() {
            metrics.set_attached(Attachment {
                compute_id: self.compute_id.as_deref().unwrap_or_default(),
                instance_id,
                tenant_id: &spec.tenant_id.to_string(),
                timeline_id: &spec.timeline_id.to_string(),
            });
        }
    }

    /// TCP address of Postgres from `--connstr`; `None` if that names a socket.
    pub async fn server_address(&self) -> Option<SocketAddr> {
        let host = match self.connstr.host()? {
            // The `url` crate leaves the host of a non-web scheme as it was written.
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = self.connstr.port().unwrap_or(POSTGRES_PORT);
        let addresses = tokio::net::lookup_host((host, port));
        tokio::time::timeout(self.timeouts.postgres.helper, addresses).await.ok()?.ok()?.next()
    }

    /// Accepts a spec for this compute without touching anything: finds whatever cannot be written
    /// to `postgresql.conf`.
    ///
    /// # Errors
    /// No `postgresql.conf` can be built for the spec.
    pub fn accept(&self, spec: ParsedSpec) -> Result<AcceptedSpec, ConfError> {
        AcceptedSpec::new(spec, self.conf_params())
    }

    /// Whether `--connstr` and the spec name the same port of Postgres. A start checks it before
    /// it touches anything; the port of a running Postgres does not change.
    ///
    /// # Errors
    /// They differ for certain. If something may make up for the difference, it is logged.
    pub fn check_port(&self, accepted: &AcceptedSpec) -> Result<(), OtherPort> {
        // It was parsed by the driver at the start of the process.
        let Ok(connstr) = self.connstr.as_str().parse() else { return Ok(()) };
        match check_port(&connstr, accepted.conf()) {
            Err(other) if !other.is_certain() => {
                tracing::warn!("{other}");
                Ok(())
            }
            checked => checked,
        }
    }

    fn conf_params(&self) -> ConfParams<'_> {
        ConfParams {
            privileged_role_name: &self.privileged_role_name,
            internal_http_port: self.internal_http_port,
            tls: self.tls.as_ref(),
            lakebase_connstr: self.lakebase.as_ref().map(|_| &self.connstr),
        }
    }
}
