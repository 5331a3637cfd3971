//! Flags of `compute_ctl check`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::values::{role_name, secret};
use crate::client::args::document;
use crate::os::secret_files::{SecretFileError, secret_in};
use crate::secret::Secret;

/// Flags of `compute_ctl check`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("document").args(["config", "spec", "sample"]).required(true)),
    group(ArgGroup::new("connection").args(["connstr", "connstr_file"]))
)]
pub struct CheckArgs {
    /// JSON configuration file; - is stdin
    #[arg(short = 'c', long, value_name = "FILE", value_parser = document())]
    pub config: Option<PathBuf>,

    /// JSON file with a bare spec, without compute_ctl_config (older form)
    #[arg(short = 'S', long, value_name = "FILE", value_parser = document())]
    pub spec: Option<PathBuf>,

    /// Print a complete configuration with comments, to start from
    #[arg(long)]
    pub sample: bool,

    /// Path to the postgres binary that reads the settings [default: `postgres` in PATH]
    #[arg(short = 'b', long)]
    pub pgbin: Option<PathBuf>,

    /// User that PostgreSQL runs as when root checks [default: postgres]
    #[arg(long, value_name = "USER")]
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
    #[arg(long, requires = "connection")]
    pub plan: bool,

    /// Connection of the compute, as a URL: its port must be that of the spec. With --show-conf and
    /// --plan it is a running Postgres: settings that would need its restart are marked, and it is
    /// compared with the spec
    #[arg(short = 'C', long, value_name = "DATABASE_URL", value_parser = secret)]
    pub connstr: Option<Secret<String>>,

    /// File that holds this connection, in place of --connstr
    #[arg(long, value_name = "FILE")]
    pub connstr_file: Option<PathBuf>,

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

impl CheckArgs {
    /// Reads the file of `--connstr-file` into `connstr`.
    pub(crate) fn read_connstr(&mut self) -> Result<(), SecretFileError> {
        if let Some(file) = &self.connstr_file {
            self.connstr = Some(secret_in("--connstr-file", file)?);
        }
        Ok(())
    }
}
