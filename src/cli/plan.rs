//! Flags of `compute_ctl plan`: the short form of `check --plan`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::CheckArgs;
use super::values::{role_name, secret};
use crate::client::args::document;
use crate::secret::Secret;

/// Flags of `compute_ctl plan`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("document").args(["config", "spec"]).required(true)),
    group(ArgGroup::new("connection").args(["connstr", "connstr_file"]).required(true))
)]
pub struct PlanArgs {
    /// JSON configuration file; - is stdin
    #[arg(short = 'c', long, value_name = "FILE", value_parser = document())]
    pub config: Option<PathBuf>,

    /// JSON file with a bare spec, without compute_ctl_config (older form)
    #[arg(short = 'S', long, value_name = "FILE", value_parser = document())]
    pub spec: Option<PathBuf>,

    /// Superuser connection to the running Postgres, as a URL
    #[arg(short = 'C', long, value_name = "DATABASE_URL", value_parser = secret)]
    pub connstr: Option<Secret<String>>,

    /// File that holds this connection, in place of --connstr
    #[arg(long, value_name = "FILE")]
    pub connstr_file: Option<PathBuf>,

    /// Path to the postgres binary that reads the settings [default: `postgres` in PATH]
    #[arg(short = 'b', long)]
    pub pgbin: Option<PathBuf>,

    /// User that PostgreSQL runs as when root asks [default: postgres]
    #[arg(long, value_name = "USER")]
    pub run_as: Option<String>,

    /// Whether `run_as` is from the environment.
    #[arg(skip)]
    pub run_as_by_variable: bool,

    /// Print the plan as JSON, with all that was found on the way
    #[arg(long)]
    pub json: bool,

    /// Name of the weak superuser role, as the compute gets it
    #[arg(long, default_value = "neon_superuser", value_parser = role_name)]
    pub privileged_role_name: String,

    /// Port of the internal HTTP server, as the compute gets it
    #[arg(long, default_value_t = 3081)]
    pub internal_http_port: u16,
}

impl From<PlanArgs> for CheckArgs {
    fn from(args: PlanArgs) -> Self {
        Self {
            config: args.config,
            spec: args.spec,
            sample: false,
            pgbin: args.pgbin,
            run_as: args.run_as,
            run_as_by_variable: args.run_as_by_variable,
            strict: false,
            json: args.json,
            show_conf: false,
            plan: true,
            connstr: args.connstr,
            connstr_file: args.connstr_file,
            probe: false,
            privileged_role_name: args.privileged_role_name,
            internal_http_port: args.internal_http_port,
        }
    }
}
