//! Command line and environment (01 §1, §2).
//!
//! Names, short forms, defaults and conflicts of the documented flags are an interface. Usage
//! errors end the process with exit code 2 before anything else happens; values that need a deeper
//! check (files, connection strings) are checked later and end it with 1.

mod check;
mod completions;
mod dev;
mod idle;
mod plan;
mod run;
mod similar;
mod token;
mod values;
mod variables;
mod version;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches, Parser, Subcommand};

pub use check::CheckArgs;
pub use completions::{CompletionsArgs, print as print_completions};
pub use dev::DevArgs;
pub use plan::PlanArgs;
pub(crate) use run::CGROUP;
pub use run::RunArgs;
pub use token::{Algorithm, Lifetime, NewTokenArgs, Scope, TokenCommand, VerifyTokenArgs};

use crate::client::args::{
    ConfigureArgs, LogLevelArgs, LogsArgs, MetricsArgs, RefreshArgs, StatusArgs, TerminateArgs,
    WaitArgs,
};
use crate::telemetry::form::LogFormat;

/// Supervisor of a Neon compute.
///
/// Takes a spec, rebuilds the data directory from the safekeepers and the pageserver, starts
/// Postgres, brings roles and databases to what the spec says, then supervises and serves an HTTP
/// API. The data directory is thrown away and made anew at every start.
#[derive(Debug, Parser)]
#[command(
    name = "compute_ctl",
    version = version::short(),
    long_version = version::long(),
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
        let by_variable = || {
            let source = variables::innermost(matches).value_source("run_as");
            source == Some(ValueSource::EnvVariable)
        };
        match &mut cli.command {
            Some(Command::Dev(args)) => args.run_as_by_variable = by_variable(),
            Some(Command::Plan(args)) => args.run_as_by_variable = by_variable(),
            Some(Command::Check(args)) => args.run_as_by_variable = by_variable(),
            Some(_) => {}
            None => cli.run.run_as_by_variable = by_variable(),
        }
        Ok(cli)
    }
}

impl Cli {
    /// How this process writes its log and its last error.
    pub fn log_format(&self) -> LogFormat {
        match &self.command {
            None => self.run.log_format,
            Some(Command::Dev(args)) if args.verbose => args.log_format,
            Some(_) => LogFormat::Text,
        }
    }
}

/// The command line, with the variables of all flags: for help and documents.
pub fn command() -> clap::Command {
    variables::named(Cli::command())
}

/// What to do instead of running a compute.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try it out: a compute on storage that lives in this process
    Dev(DevArgs),
    /// Check a configuration without touching anything: exit code 0 if a compute can use it
    Check(CheckArgs),
    /// Print what a configuration would change in the roles and databases of a running Postgres
    Plan(PlanArgs),
    /// Print a complete configuration with comments, to start from
    SampleConfig,
    /// Make and check tokens for the external HTTP server
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
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

#[cfg(test)]
mod tests;
