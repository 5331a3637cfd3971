//! `compute_ctl completions`: what a shell completes after the name of the program.

use std::io::Write as _;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

/// Flags of `compute_ctl completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints the script for the shell.
///
/// # Errors
/// The script cannot be written to stdout.
pub fn print(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "compute_ctl", &mut script);
    std::io::stdout().write_all(&script).context("could not write to stdout")?;
    Ok(0)
}
