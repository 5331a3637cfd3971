//! Command line and environment (01 §1, §2).
//!
//! Names, short forms, defaults and conflicts of the documented flags are an interface. Usage
//! errors end the process with exit code 2 before anything else happens; values that need a deeper
//! check (files, connection strings) are checked later and end it with 1.

mod similar;
mod values;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgGroup, Args, FromArgMatches, Parser, Subcommand};
use url::Url;

use crate::client::args::{
    ConfigureArgs, LogLevelArgs, LogsArgs, MetricsArgs, RefreshArgs, StatusArgs, TerminateArgs,
    WaitArgs,
};
use crate::env::LOG_FORMAT;
use crate::spec::pageserver::PageserverProtocol;
use crate::telemetry::form::LogFormat;
use crate::telemetry::metrics::BUILD_TAG;
use values::{gateway_url, protocol, role_name, safekeeper_count, seconds};

/// Supervisor of a Neon compute.
///
/// Takes a spec, rebuilds the data directory from the safekeepers and the pageserver, starts
/// Postgres, brings roles and databases to what the spec says, then supervises and serves an HTTP
/// API. The data directory is thrown away and made anew at every start.
#[derive(Debug, Parser)]
#[command(
    name = "compute_ctl",
    version = version(),
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "A first try without any storage:  compute_ctl dev"
)]
pub struct Cli {
    /// What to do instead of running a compute.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Run a compute.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Cli {
    /// Also notes which values are from the environment.
    fn of(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        let named = ["dev", "check"].iter().find_map(|name| matches.subcommand_matches(name));
        let named = named.unwrap_or(matches);
        let by_variable = named.value_source("run_as") == Some(ValueSource::EnvVariable);
        match &mut cli.command {
            Some(Command::Dev(args)) => args.run_as_by_variable = by_variable,
            Some(Command::Check(args)) => args.run_as_by_variable = by_variable,
            Some(_) => {}
            None => cli.run.run_as_by_variable = by_variable,
        }
        Ok(cli)
    }
}

/// What to do instead of running a compute.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try it out: a compute on storage that lives in this process
    Dev(DevArgs),
    /// Check a configuration without touching anything: exit code 0 if a compute can use it
    Check(CheckArgs),
    /// Ask a running compute for its status: exit code 0 unless it has failed
    Status(StatusArgs),
    /// Wait until a compute has a status
    Wait(WaitArgs),
    /// Give a running compute another configuration
    Configure(ConfigureArgs),
    /// Have a running compute fetch its configuration again; does not wait for the effect
    Refresh(RefreshArgs),
    /// Print the metrics of a compute
    Metrics(MetricsArgs),
    /// End a running compute
    Terminate(TerminateArgs),
    /// Show the last lines of the log of a running compute
    Logs(LogsArgs),
    /// Show the level of the log of a running compute, or set another one for a limited time
    LogLevel(LogLevelArgs),
}

mod idle;

/// Default of `--cgroup`.
pub(crate) const CGROUP: &str = "neon-postgres";
/// Default of `--filecache-connstr`.
const FILECACHE_CONNSTR: &str = "host=localhost port=5432 dbname=postgres \
    user=cloud_admin sslmode=disable application_name=vm-monitor";
/// Default of `--vm-monitor-addr`.
const VM_MONITOR_ADDR: &str = "0.0.0.0:10301";
/// Default of `--pg-init-timeout`, in seconds.
const PG_INIT_TIMEOUT: u64 = 60;

/// Variable of `--run-as`.
const RUN_AS: &str = "COMPUTE_CTL_RUN_AS";

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
    #[arg(short = 'b', long, env = "POSTGRES_PATH", default_value = "postgres")]
    pub pgbin: PathBuf,

    /// Data directory; thrown away and made anew at every start
    #[arg(short = 'D', long, value_name = "DATADIR", required = true)]
    pub pgdata: Option<PathBuf>,

    /// Superuser connection to the managed Postgres, as a URL
    #[arg(short = 'C', long, value_name = "DATABASE_URL", required = true)]
    pub connstr: Option<String>,

    /// Name of the weak superuser role that is handed to customers
    #[arg(long, default_value = "neon_superuser", value_parser = role_name)]
    pub privileged_role_name: String,

    /// JSON configuration file
    #[arg(short = 'c', long, value_name = "FILE", help_heading = CONFIGURATION)]
    pub config: Option<PathBuf>,

    /// JSON file with a bare spec, without compute_ctl_config (older form)
    #[arg(short = 'S', long, value_name = "FILE", help_heading = CONFIGURATION)]
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

    /// Port of the internal HTTP server; also in postgresql.conf as neon.extension_server_port
    #[arg(long, default_value_t = 3081, help_heading = HTTP)]
    pub internal_http_port: u16,

    /// Address of the internal HTTP server, which asks for no token [default: 127.0.0.1 and ::1];
    /// any but a loopback one is served in addition to these
    #[arg(long, value_name = "ADDR", help_heading = HTTP)]
    pub internal_http_bind: Option<std::net::IpAddr>,

    /// Older flag: external port, internal is the next one. Ignored unless in Lakebase mode
    #[arg(
        long,
        conflicts_with_all = ["external_http_port", "internal_http_port"],
        help_heading = HTTP
    )]
    pub http_port: Option<u16>,

    /// User to run as when started as root, by name or number [default: postgres]
    #[arg(long, env = RUN_AS, value_name = "USER[:GROUP]", help_heading = PROCESS)]
    pub run_as: Option<String>,

    /// Whether `run_as` is from the environment.
    #[arg(skip)]
    pub run_as_by_variable: bool,

    /// Form of the log: text, or one JSON object per line
    #[arg(
        long,
        env = LOG_FORMAT,
        value_name = "text|json",
        default_value = LogFormat::Text.name(),
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
        default_value_t = false,
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
        help_heading = NEIGHBOURS
    )]
    pub filecache_connstr: String,

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
    /// Ports of the external and the internal server (01 §26: `--http-port` counts in Lakebase
    /// mode only).
    pub fn http_ports(&self) -> (u16, u16) {
        match self.http_port {
            Some(port) if self.lakebase_mode => (port, port.saturating_add(1)),
            _ => (self.external_http_port, self.internal_http_port),
        }
    }
}

/// Flags of `compute_ctl dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Path to the postgres binary [default: the newest of 14 to 17 that is found]
    #[arg(short = 'b', long, env = "POSTGRES_PATH")]
    pub pgbin: Option<PathBuf>,

    /// Keep databases between runs in this directory [default: everything is temporary]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Number of stand-in safekeepers
    #[arg(long, value_name = "1|3", default_value_t = 1, value_parser = safekeeper_count)]
    pub safekeepers: usize,

    /// Protocol towards the stand-in pageserver
    #[arg(long, value_name = "libpq|grpc", default_value = "libpq", value_parser = protocol)]
    pub pageserver_protocol: PageserverProtocol,

    /// Port of Postgres, 0 for any free one
    #[arg(long, default_value_t = 55432)]
    pub port: u16,

    /// Port of the external HTTP server, 0 for any free one
    #[arg(long, default_value_t = 3080)]
    pub external_http_port: u16,

    /// Port of the internal HTTP server, 0 for any free one
    #[arg(long, default_value_t = 3081)]
    pub internal_http_port: u16,

    /// User to run as when started as root, by name or number [default: postgres]
    #[arg(long, env = RUN_AS, value_name = "USER[:GROUP]")]
    pub run_as: Option<String>,

    /// Whether `run_as` is from the environment.
    #[arg(skip)]
    pub run_as_by_variable: bool,

    /// Show the log of the supervisor and of Postgres
    #[arg(long, short = 'v')]
    pub verbose: bool,

    /// Form of the log: text, or one JSON object per line
    #[arg(long, env = LOG_FORMAT, value_name = "text|json", default_value = LogFormat::Text.name())]
    pub log_format: LogFormat,
}

/// Flags of `compute_ctl check`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("document").args(["config", "spec", "sample"]).required(true))
)]
pub struct CheckArgs {
    /// JSON configuration file
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// JSON file with a bare spec, without compute_ctl_config (older form)
    #[arg(short = 'S', long, value_name = "FILE")]
    pub spec: Option<PathBuf>,

    /// Print a complete configuration with comments, to start from
    #[arg(long)]
    pub sample: bool,

    /// Path to the postgres binary that reads the settings [default: `postgres` in PATH]
    #[arg(short = 'b', long, env = "POSTGRES_PATH")]
    pub pgbin: Option<PathBuf>,

    /// User that PostgreSQL runs as when root checks [default: postgres]
    #[arg(long, env = RUN_AS, value_name = "USER")]
    pub run_as: Option<String>,

    /// Whether `run_as` is from the environment.
    #[arg(skip)]
    pub run_as_by_variable: bool,

    /// Take unknown members for errors
    #[arg(long)]
    pub strict: bool,

    /// Print the findings as JSON
    #[arg(long, conflicts_with = "show_conf")]
    pub json: bool,

    /// Print the settings that postgresql.conf would hold, with their origin
    #[arg(long)]
    pub show_conf: bool,

    /// Print what would be done to roles and databases of the Postgres at --connstr
    #[arg(long, requires = "connstr")]
    pub plan: bool,

    /// Connection of the compute, as a URL: its port must be that of the spec. With --show-conf and
    /// --plan it is a running Postgres: settings that would need its restart are marked, and it is
    /// compared with the spec
    #[arg(short = 'C', long, value_name = "DATABASE_URL")]
    pub connstr: Option<String>,

    /// Also reach the pageserver and the safekeepers
    #[arg(long)]
    pub probe: bool,

    /// Name of the weak superuser role, as the compute gets it
    #[arg(long, default_value = "neon_superuser", value_parser = role_name)]
    pub privileged_role_name: String,

    /// Port of the internal HTTP server, as the compute gets it
    #[arg(long, default_value_t = 3081)]
    pub internal_http_port: u16,
}

fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| format!("{} (build tag {BUILD_TAG})", env!("CARGO_PKG_VERSION")));
    &VERSION
}

#[cfg(test)]
mod tests;
