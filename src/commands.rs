//! The commands, such as `compute_ctl check`: each ends with an exit code, and runs no compute but
//! [`dev`].

use crate::cli::{self, Command};
use crate::os::signals::Inherited;
use crate::{check, client, dev, token};

/// Runs a command. Returns the exit code of the process.
///
/// # Errors
/// See the commands; what they find is on stdout.
pub fn run(command: Command, inherited: Inherited) -> anyhow::Result<u8> {
    match command {
        Command::Dev(args) => dev::command::run(args, inherited),
        Command::Check(args) => check::run(args),
        Command::Plan(args) => check::run(args.into()),
        Command::SampleConfig => check::sample(),
        Command::Token(command) => token::run(&command),
        Command::Completions(args) => cli::print_completions(&args, cli::command()),
        Command::Status(args) => client::status(&args),
        Command::Wait(args) => client::wait(&args),
        Command::Configure(args) => client::configure(&args),
        Command::Refresh(args) => client::refresh(&args),
        Command::Metrics(args) => client::metrics(&args),
        Command::Terminate(args) => client::terminate(&args),
        Command::Logs(args) => client::logs(&args),
        Command::LogLevel(args) => client::log_level(&args),
    }
}
