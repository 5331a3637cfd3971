//! Wire types of the compute spec and the documents around it (02 §4 to §11).
//!
//! Plain data, as it stands in the JSON: no defaults are resolved here and nothing is validated
//! beyond its type. Optional members (`Option`) may be absent or null; members with a serde
//! default may be absent but not null (02 R3, R4).

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::{Lsn, TenantId, TimelineId};
use super::jwk;
use super::pageserver::PageserverConnectionInfo;
use crate::secret::Secret;

/// The configuration file (02 D1).
#[derive(Debug, Clone, Deserialize)]
pub struct ConfigDocument {
    /// Absent: the compute starts empty and waits for `/configure`.
    pub spec: Option<ComputeSpec>,
    /// Taken once, when the process starts.
    pub compute_ctl_config: ComputeCtlConfig,
}

/// Body of `POST /configure` (02 D2).
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct ConfigureRequest {
    /// The complete new spec.
    pub spec: ComputeSpec,
    /// Must be well formed, has no effect (02 §4.3).
    #[expect(dead_code, reason = "required by the document's shape, dropped by contract")]
    compute_ctl_config: ComputeCtlConfig,
    /// Look into every database at once, also where the shared catalogs show nothing to change; the
    /// original does not know this member.
    pub force_catalog_check: Option<bool>,
}

/// Body of `POST /promote` (02 D3).
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct PromoteRequest {
    /// The complete spec of the new primary.
    pub spec: ComputeSpec,
    /// What `/terminate` of the old primary returned.
    pub wal_flush_lsn: Lsn,
}

/// Answer of the control plane (02 D4).
#[derive(Debug, Clone, Deserialize)]
pub struct ControlPlaneResponse {
    /// Whether the compute is bound to an endpoint yet.
    pub status: ControlPlaneStatus,
    /// Present when attached; used when present, whatever the status says.
    pub spec: Option<ComputeSpec>,
    /// Keys and certificate paths.
    pub compute_ctl_config: ComputeCtlConfig,
}

/// `status` of [`ControlPlaneResponse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlPlaneStatus {
    /// Known, not bound to an endpoint.
    Empty,
    /// Bound; a spec must be there.
    Attached,
}

/// Configuration of the program, not of the compute (02 §4.1).
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct ComputeCtlConfig {
    /// Keys that verify bearer tokens on the external server.
    pub jwks: Jwks,
    /// Server certificate for Postgres and its neighbours.
    pub tls: Option<TlsConfig>,
}

/// A JSON web key set.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct Jwks {
    /// May be empty; then every token is refused.
    #[schema(value_type = Vec<Object>)]
    #[serde(deserialize_with = "jwk::keys")]
    pub keys: Vec<jsonwebtoken::jwk::Jwk>,
}

/// Absolute paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct TlsConfig {
    /// Private key.
    pub key_path: String,
    /// Certificate chain, leaf first.
    pub cert_path: String,
}

/// The compute spec (02 §5).
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
pub struct ComputeSpec {
    /// Not used; 1.0 today. Required so that other JSON is not taken for a spec.
    pub format_version: f32,
    /// Shown in log lines.
    pub operation_uuid: Option<String>,
    /// Known texts: see [`Feature`]; all others are accepted and have no effect.
    #[serde(default)]
    pub features: Vec<String>,
    /// Swap to set up, in bytes.
    pub swap_size_bytes: Option<u64>,
    /// Disk quota to set, in bytes; 0 switches it off.
    pub disk_quota_bytes: Option<u64>,
    /// The VM monitor leaves the file cache alone.
    pub disable_lfc_resizing: Option<bool>,
    /// Roles, databases, settings.
    pub cluster: Cluster,
    /// Renames and deletions.
    pub delta_operations: Option<Vec<DeltaOperation>>,
    /// No SQL for roles, databases, grants, extensions, migrations.
    #[serde(default)]
    pub skip_pg_catalog_updates: bool,
    /// See [`super::ParsedSpec::tenant_id`] for the fallback.
    pub tenant_id: Option<TenantId>,
    /// See [`super::ParsedSpec::timeline_id`] for the fallback.
    pub timeline_id: Option<TimelineId>,
    /// Preferred source of pageserver information.
    pub pageserver_connection_info: Option<PageserverConnectionInfo>,
    /// Older source: connection strings in shard order, joined by commas.
    #[schema(value_type = Option<String>)]
    pub pageserver_connstring: Option<Secret<String>>,
    /// Pages of 8 KiB; goes with `pageserver_connstring`.
    pub shard_stripe_size: Option<u32>,
    /// For `neon.project_id`.
    pub project_id: Option<String>,
    /// For `neon.branch_id`.
    pub branch_id: Option<String>,
    /// For `neon.endpoint_id` and endpoint storage.
    pub endpoint_id: Option<String>,
    /// Prefix `g#<n>:` of `neon.safekeepers`; 0 is written too.
    pub safekeepers_generation: Option<u32>,
    /// `host:port` each.
    #[serde(default)]
    pub safekeeper_connstrings: Vec<String>,
    /// Read-write, pinned, or following.
    #[serde(default)]
    pub mode: ComputeMode,
    /// Password towards pageserver and safekeepers.
    #[schema(value_type = Option<String>)]
    pub storage_auth_token: Option<Secret<String>>,
    /// Extensions that can be downloaded (02 §10).
    pub remote_extensions: Option<RemoteExtensions>,
    /// Options of `[pgbouncer]`, in order. Values may hold passwords.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub pgbouncer_settings: Option<IndexMap<String, Secret<String>>>,
    /// Configuration of the local proxy.
    pub local_proxy_config: Option<LocalProxyConfig>,
    /// Databases worked on at once during a reconfiguration; 0 counts as 1 (02 W5).
    #[serde(default = "one")]
    pub reconfigure_concurrency: usize,
    /// Drop all subscriptions once per timeline.
    #[serde(default)]
    pub drop_subscriptions_before_start: bool,
    /// Level of audit logging.
    #[serde(default)]
    pub audit_log_level: AuditLogLevel,
    /// `host:port` that gets the Postgres log.
    pub logs_export_host: Option<String>,
    /// `host:port` of the endpoint storage.
    pub endpoint_storage_addr: Option<String>,
    /// Bearer token for it.
    #[schema(value_type = Option<String>)]
    pub endpoint_storage_token: Option<Secret<String>>,
    /// Prewarm the file cache as soon as the compute runs.
    #[serde(default)]
    pub autoprewarm: bool,
    /// Offload the file cache state every n seconds.
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub offload_lfc_interval_seconds: Option<NonZeroU64>,
    /// Tunes the extension statistics; values up to 0 mean the default (02 W13).
    pub suspend_timeout_seconds: i64,
    /// Lakebase settings (02 §15).
    pub databricks_settings: Option<DatabricksSettings>,
}

const fn one() -> usize {
    1
}

/// Features that change behaviour (02 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The activity monitor also watches statistics totals.
    ActivityMonitorExperimental,
    /// `compute_ctl_config.tls` is applied to Postgres and its neighbours.
    TlsExperimental,
}

impl Feature {
    const fn text(self) -> &'static str {
        match self {
            Self::ActivityMonitorExperimental => "activity_monitor_experimental",
            Self::TlsExperimental => "tls_experimental",
        }
    }
}

impl ComputeSpec {
    /// Whether the spec switches a feature on.
    pub fn has_feature(&self, feature: Feature) -> bool {
        self.features.iter().any(|text| text == feature.text())
    }

    /// The value of a setting in `cluster.settings` that Postgres would use: the last of several
    /// entries, whatever the case of their names (04 W11). An entry without a value is not written,
    /// and does not count (02 §7.1).
    pub fn setting(&self, name: &str) -> Option<&str> {
        let settings = self.cluster.settings.as_deref().unwrap_or_default().iter().rev();
        let mut named = settings.filter(|setting| setting.name.eq_ignore_ascii_case(name));
        named.find(|setting| !setting.lacks_value())?.value.as_deref()
    }
}

/// Mode of a compute (02 §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
pub enum ComputeMode {
    /// Read-write.
    #[default]
    Primary,
    /// Read-only, pinned at the LSN.
    Static(Lsn),
    /// Read-only hot standby following the branch.
    Replica,
}

impl fmt::Display for ComputeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Static(_) => "static",
            Self::Replica => "replica",
        })
    }
}

/// Level of audit logging (02 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
pub enum AuditLogLevel {
    /// None.
    #[default]
    Disabled,
    /// DDL and role changes into the Postgres log. Old name: `Log`.
    #[serde(alias = "Log")]
    Base,
    /// Everything but `misc` into files of its own. Old name: `Hipaa`.
    #[serde(alias = "Hipaa")]
    Extended,
    /// Everything, with parameters.
    Full,
}

/// Roles, databases, settings (02 §8).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Cluster {
    /// Shown in log lines.
    pub cluster_id: Option<String>,
    /// Not used.
    pub name: Option<String>,
    /// Not used.
    pub state: Option<String>,
    /// Roles that must exist.
    pub roles: Vec<Role>,
    /// Databases that must exist.
    pub databases: Vec<Database>,
    /// First part of `postgresql.conf`, verbatim.
    pub postgresql_conf: Option<String>,
    /// Settings appended to `postgresql.conf`, also searched by name.
    pub settings: Option<Vec<PgOption>>,
}

/// A role (02 §8.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Role {
    /// Raw catalog name.
    pub name: String,
    /// SCRAM verifier, bare MD5 hash, or none; an empty text is none.
    #[schema(value_type = Option<String>)]
    pub encrypted_password: Option<Secret<String>>,
    /// Role options in SQL form.
    pub options: Option<Vec<PgOption>>,
}

/// A database (02 §8.3). `restrict_conn` and `invalid` are output-only members and ignored here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Database {
    /// Raw catalog name.
    pub name: String,
    /// Raw catalog name of the owner.
    pub owner: String,
    /// Database options in SQL form.
    pub options: Option<Vec<PgOption>>,
}

/// The generic name/value item (02 §8.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct PgOption {
    /// Option or setting name, raw.
    pub name: String,
    /// Always text, also for numbers.
    pub value: Option<String>,
    /// `string` is quoted, everything else is written as it is.
    pub vartype: String,
}

impl PgOption {
    /// Whether nothing would follow the name where it is written: only a value of vartype `string`
    /// has quotes around it, and can be empty.
    pub fn lacks_value(&self) -> bool {
        let blank = |value: &String| value.chars().all(|c| matches!(c, ' ' | '\t'));
        self.value.as_ref().is_none_or(|value| self.vartype != "string" && blank(value))
    }
}

/// A rename or deletion (02 §9).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct DeltaOperation {
    /// `delete_db`, `rename_db`, `delete_role`, `rename_role`; others are ignored.
    pub action: String,
    /// What is renamed or deleted.
    pub name: String,
    /// The new name.
    pub new_name: Option<String>,
}

/// Extensions that can be downloaded (02 §10.1).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct RemoteExtensions {
    /// Names open to all.
    pub public_extensions: Option<Vec<String>>,
    /// Names open to this project.
    pub custom_extensions: Option<Vec<String>>,
    /// Library name without suffix to extension name.
    pub library_index: BTreeMap<String, String>,
    /// Extension name to its data.
    pub extension_data: BTreeMap<String, ExtensionData>,
}

/// Data of one extension that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct ExtensionData {
    /// File name to content, for `<sharedir>/extension/`.
    pub control_data: BTreeMap<String, String>,
    /// Required, not used.
    pub archive_path: String,
}

/// Configuration of the local proxy (02 §11.1).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct LocalProxyConfig {
    /// Key sets and the roles they stand for.
    pub jwks: Option<Vec<LocalProxyJwks>>,
    /// Always replaced before it is written.
    pub tls: Option<TlsConfig>,
}

/// One key set of the local proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct LocalProxyJwks {
    /// Id of the key set.
    pub id: String,
    /// Roles that its tokens may take; they are created without attributes.
    pub role_names: Vec<String>,
    /// Where the keys are fetched.
    pub jwks_url: String,
    /// Name of the provider.
    pub provider_name: String,
    /// Expected audience.
    pub jwt_audience: Option<String>,
}

/// Lakebase settings (02 §15).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct DatabricksSettings {
    /// Certificate, key and authority of Postgres.
    pub pg_compute_tls_settings: DatabricksTls,
    /// Extra HBA file.
    pub databricks_pg_hba: String,
    /// Extra ident file.
    pub databricks_pg_ident: String,
    /// Host name of the workspace, may be empty.
    pub databricks_workspace_host: String,
}

/// Absolute paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct DatabricksTls {
    /// Certificate.
    pub cert_file: String,
    /// Private key.
    pub key_file: String,
    /// Authority.
    pub ca_file: String,
}
