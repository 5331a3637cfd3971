//! `compute_ctl token`: makes tokens to try things out, and says whether a compute accepts one.
//!
//! A real control plane makes its tokens itself. A token is judged by the code that the HTTP server
//! uses, so that the answer is the server's.

mod key;
mod new;
mod verify;

use crate::cli::TokenCommand;

/// Runs the command. Returns the exit code.
pub fn run(command: &TokenCommand) -> anyhow::Result<u8> {
    match command {
        TokenCommand::New(args) => new::run(args),
        TokenCommand::Verify(args) => verify::run(args),
    }
}
