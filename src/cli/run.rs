//! Flags of a compute: `compute_ctl` without a command (01 §1).

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use url::Url;

use super::values::{gateway_url, host_name, log_format, role_name, seconds, secret};
use super::variables::yes_or_no;
use crate::client::args::document;
use crate::os::secret_files::{SecretFileError, secret_in};
use crate::secret::Secret;
use crate::telemetry::form::LogFormat;

/// Default of `--cgroup`.
pub(crate) const CGROUP: &str = "neon-postgres";
/// Default of `--filecache-connstr`.
pub(super) const FILECACHE_CONNSTR: &str = "host=localhost port=5432 dbname=postgres \
    user=cloud_admin sslmode=disable application_name=vm-monitor";
/// Default of `--vm-monitor-addr`.
pub(super) const VM_MONITOR_ADDR: &str = "0.0.0.0:10301";
/// Default of `--pg-init-timeout`, in seconds.
pub(super) const PG_INIT_TIMEOUT: u64 = 60;

const CONFIGURATION: &str = "Configuration (one of these is needed)";
const HTTP: &str = "HTTP servers";
const PROCESS: &str = "Process";
const NEIGHBOURS: &str = "Virtual machine and neighbours";

/// Flags of a compute.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("source").args(["config", "spec", "control_plane_uri"]).required(true)
))]
pub struct RunArgs {
    /// Path to the postgres binary; its sibling programs are looked up next to it
    #[arg(short = 'b', long, default_value = "postgres")]
    pub pgbin: PathBuf,

    /// Data directory; thrown away and made anew at every start
    #[arg(short = 'D', long, value_name = "DATADIR", required = true)]
    pub pgdata: Option<PathBuf>,

    /// Superuser connection to the managed Postgres, as a URL
    #[arg(
        short = 'C',
        long,
        value_name = "DATABASE_URL",
        value_parser = secret,
        required_unless_present = "connstr_file",
        conflicts_with = "connstr_file"
    )]
    pub connstr: Option<Secret<String>>,

    /// File that holds this connection, in place of --connstr: other users see arguments, but not a
    /// file that only root may read
    #[arg(long, value_name = "FILE")]
    pub connstr_file: Option<PathBuf>,

    /// Name of the weak superuser role that is handed to customers
    #[arg(long, default_value = "neon_superuser", value_parser = role_name)]
    pub privileged_role_name: String,

    /// JSON configuration file
    #[arg(short = 'c', long, value_name = "FILE", value_parser = document(), help_heading = CONFIGURATION)]
    pub config: Option<PathBuf>,

    /// JSON file with a bare spec, without compute_ctl_config (older form)
    #[arg(short = 'S', long, value_name = "FILE", value_parser = document(), help_heading = CONFIGURATION)]
    pub spec: Option<PathBuf>,

    /// Fetch the configuration from this control plane
    #[arg(
        short = 'p',
        long,
        value_name = "CONTROL_PLANE_API_BASE_URL",
        requires = "compute_id",
        help_heading = CONFIGURATION
    )]
    pub control_plane_uri: Option<String>,

    /// Id of this compute: in the control plane's URL and in the compute_id claim of tokens
    #[arg(
        short = 'i',
        long,
        required_unless_present = "spec",
        help_heading = CONFIGURATION
    )]
    pub compute_id: Option<String>,

    /// Port of the external, authenticated HTTP server
    #[arg(long, default_value_t = 3080, help_heading = HTTP)]
    pub external_http_port: u16,

    /// Address of the external HTTP server; may be given several times, or as a list with commas
    /// [default: all interfaces]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', help_heading = HTTP)]
    pub external_http_bind: Vec<std::net::IpAddr>,

    /// Certificate of the external HTTP server, as a PEM file with the chain, leaf first: it then
    /// speaks TLS only
    #[arg(long, value_name = "FILE", requires = "external_http_tls_key", help_heading = HTTP)]
    pub external_http_tls_cert: Option<PathBuf>,

    /// Private key of this certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "external_http_tls_cert", help_heading = HTTP)]
    pub external_http_tls_key: Option<PathBuf>,

    /// PEM file with the authorities that sign the certificates of clients: a client without such a
    /// certificate is then refused
    #[arg(long, value_name = "FILE", requires = "external_http_tls_cert", help_heading = HTTP)]
    pub external_http_tls_client_ca: Option<PathBuf>,

    /// Port of the internal HTTP server; also in postgresql.conf as neon.extension_server_port
    #[arg(long, default_value_t = 3081, help_heading = HTTP)]
    pub internal_http_port: u16,

    /// Address of the internal HTTP server, which asks for no token [default: 127.0.0.1 and ::1];
    /// any but a loopback one is served in addition to these
    #[arg(long, value_name = "ADDR", help_heading = HTTP)]
    pub internal_http_bind: Option<std::net::IpAddr>,

    /// Name by which clients may ask the internal HTTP server, beside addresses, localhost and the
    /// host name of this machine; may be given several times, or as a list with commas [default:
    /// any name if other machines can reach the server, none otherwise]
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = host_name,
        help_heading = HTTP
    )]
    pub internal_http_host: Vec<String>,

    /// Older flag: external port, internal is the next one. Ignored unless in Lakebase mode
    #[arg(
        long,
        conflicts_with_all = ["external_http_port", "internal_http_port"],
        help_heading = HTTP
    )]
    pub http_port: Option<u16>,

    /// User to run as when started as root, by name or number [default: postgres]
    #[arg(long, value_name = "USER[:GROUP]", help_heading = PROCESS)]
    pub run_as: Option<String>,

    /// Whether `run_as` is from the environment.
    #[arg(skip)]
    pub run_as_by_variable: bool,

    /// Form of the log: text, or one JSON object per line
    #[arg(
        long,
        value_name = "text|json",
        default_value = LogFormat::Text.name(),
        value_parser = log_format(),
        hide_possible_values = true,
        help_heading = PROCESS
    )]
    pub log_format: LogFormat,

    /// Wipe the data directory even if it holds something else than a data directory
    #[arg(long, help_heading = PROCESS)]
    pub force_wipe: bool,

    /// Seconds in which a signal must have ended Postgres and everything else
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "7",
        value_parser = seconds,
        help_heading = PROCESS
    )]
    pub stop_timeout: Duration,

    /// Exit code after SIGINT, SIGTERM or SIGQUIT
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = PROCESS)]
    pub signal_exit_code: u8,

    /// Development: leave pgbouncer and local_proxy alone; no token needed from loopback when no
    /// keys are configured
    #[arg(long, help_heading = PROCESS)]
    pub dev: bool,

    /// Time limit of the start in Lakebase mode, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PG_INIT_TIMEOUT, help_heading = PROCESS)]
    pub pg_init_timeout: u64,

    /// Lakebase mode
    #[arg(
        long,
        value_name = "true|false",
        default_value = "false",
        value_parser = yes_or_no(),
        action = clap::ArgAction::Set,
        help_heading = PROCESS
    )]
    pub lakebase_mode: bool,

    /// Base URL of the remote extension gateway
    #[arg(short = 'r', long, value_name = "URL", value_parser = gateway_url, help_heading = NEIGHBOURS)]
    pub remote_ext_base_url: Option<Url>,

    /// Start value of the interval of the extension statistics, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, help_heading = NEIGHBOURS)]
    pub installed_extensions_collection_interval: u64,

    /// Name of the cgroup for the VM monitor
    #[arg(long, default_value = CGROUP, help_heading = NEIGHBOURS)]
    pub cgroup: String,

    /// Connection the VM monitor uses to resize the file cache
    #[arg(
        long,
        value_name = "CONNSTR",
        default_value = FILECACHE_CONNSTR,
        hide_default_value = true,
        value_parser = secret,
        conflicts_with = "filecache_connstr_file",
        help_heading = NEIGHBOURS
    )]
    pub filecache_connstr: Secret<String>,

    /// File that holds this connection, in place of --filecache-connstr
    #[arg(long, value_name = "FILE", help_heading = NEIGHBOURS)]
    pub filecache_connstr_file: Option<PathBuf>,

    /// Listen address of the VM monitor
    #[arg(long, value_name = "IP:PORT", default_value = VM_MONITOR_ADDR, help_heading = NEIGHBOURS)]
    pub vm_monitor_addr: std::net::SocketAddr,

    /// Permit swap resizing at start
    #[arg(long, help_heading = NEIGHBOURS)]
    pub resize_swap_on_bind: bool,

    /// Permit a disk quota for the file system mounted here
    #[arg(long, value_name = "MOUNT_POINT", help_heading = NEIGHBOURS)]
    pub set_disk_quota_for_fs: Option<String>,
}

impl RunArgs {
    /// Reads the files that hold a flag's value. To be called once, before the process steps down
    /// from root.
    ///
    /// # Errors
    /// See [`SecretFileError`].
    pub fn read_secret_files(&mut self) -> Result<(), SecretFileError> {
        if let Some(file) = &self.connstr_file {
            self.connstr = Some(secret_in("--connstr-file", file)?);
        }
        if let Some(file) = &self.filecache_connstr_file {
            self.filecache_connstr = secret_in("--filecache-connstr-file", file)?;
        }
        Ok(())
    }

    /// Ports of the external and the internal server (01 §26: `--http-port` counts in Lakebase
    /// mode only).
    pub fn http_ports(&self) -> (u16, u16) {
        match self.http_port {
            Some(port) if self.lakebase_mode => (port, port.saturating_add(1)),
            _ => (self.external_http_port, self.internal_http_port),
        }
    }
}
