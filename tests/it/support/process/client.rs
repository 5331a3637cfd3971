//! `compute_ctl status`, `wait` and `terminate`, and their output.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::assertions::PATIENCE;
use crate::support::process::program;

#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the client with these arguments.
pub async fn client(args: &[&str]) -> Ran {
    client_with_env(args, &[]).await
}

pub async fn client_with_env(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(program());
    command.args(args).envs(env.iter().copied()).current_dir("/").stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output.unwrap_or_else(|_| panic!("{args:?} did not end")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
