//! `compute_ctl check` and its output.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::assertions::PATIENCE;
use crate::support::process::program;

#[derive(Debug)]
pub struct Checked {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `compute_ctl check` with these arguments.
pub async fn check(args: &[&str]) -> Checked {
    check_with_env(args, &[]).await
}

/// Runs `compute_ctl check` with these arguments and variables.
pub async fn check_with_env(args: &[&str], env: &[(&str, &str)]) -> Checked {
    let mut command = Command::new(program());
    command.arg("check").args(args).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("POSTGRES_PATH").envs(env.iter().copied());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("check did not end").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Checked { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Checked {
    /// The check found no error; returns its output.
    #[track_caller]
    pub fn good(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }

    /// The check found an error; returns the errors.
    #[track_caller]
    pub fn bad(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stderr.starts_with("Error: "), "{self:?}");
        assert!(!self.stdout.contains("can be used"), "{self:?}");
        &self.stderr
    }
}
