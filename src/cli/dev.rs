//! Flags of `compute_ctl dev`.

use std::path::PathBuf;

use clap::Args;

use super::values::{log_format, protocol, safekeeper_count};
use crate::spec::pageserver::PageserverProtocol;
use crate::telemetry::form::LogFormat;

/// Flags of `compute_ctl dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Path to the postgres binary [default: the newest of 14 to 17 that is found]
    #[arg(short = 'b', long)]
    pub pgbin: Option<PathBuf>,

    /// Keep databases between runs in this directory [default: everything is temporary]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Number of stand-in safekeepers
    #[arg(
        long,
        value_name = "1|3",
        default_value_t = 1,
        value_parser = safekeeper_count(),
        hide_possible_values = true
    )]
    pub safekeepers: usize,

    /// Protocol towards the stand-in pageserver
    #[arg(
        long,
        value_name = "libpq|grpc",
        default_value = "libpq",
        value_parser = protocol(),
        hide_possible_values = true
    )]
    pub pageserver_protocol: PageserverProtocol,

    /// Port of Postgres, 0 for any free one
    #[arg(long, default_value_t = 55432)]
    pub port: u16,

    /// Port of the external HTTP server, 0 for any free one
    #[arg(long, default_value_t = 3080, conflicts_with = "storage_only")]
    pub external_http_port: u16,

    /// Address of the external HTTP server; may be given several times, or as a list with commas
    /// [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', conflicts_with = "storage_only")]
    pub external_http_bind: Vec<std::net::IpAddr>,

    /// Port of the internal HTTP server, 0 for any free one
    #[arg(long, default_value_t = 3081, conflicts_with = "storage_only")]
    pub internal_http_port: u16,

    /// Serve the stand-in storage without a compute, for computes with a command line of their own
    #[arg(long)]
    pub storage_only: bool,

    /// Where --storage-only writes a configuration [default: compute.json in the --data directory]
    #[arg(long, value_name = "FILE", requires = "storage_only")]
    pub write_config: Option<PathBuf>,

    /// Port of the pageserver with --storage-only, 0 for any free one
    #[arg(long, value_name = "PORT", default_value_t = 64000, requires = "storage_only")]
    pub pageserver_port: u16,

    /// Port of the first safekeeper with --storage-only, the others follow; 0 for any free ones
    #[arg(long, value_name = "PORT", default_value_t = 5454, requires = "storage_only")]
    pub safekeeper_port: u16,

    /// User to run as when started as root, by name or number [default: postgres]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub run_as: Option<String>,

    /// Whether `run_as` is from the environment.
    #[arg(skip)]
    pub run_as_by_variable: bool,

    /// Show the log of the supervisor and of Postgres
    #[arg(long, short = 'v')]
    pub verbose: bool,

    /// Form of the log: text, or one JSON object per line
    #[arg(
        long,
        value_name = "text|json",
        default_value = LogFormat::Text.name(),
        value_parser = log_format(),
        hide_possible_values = true
    )]
    pub log_format: LogFormat,
}
