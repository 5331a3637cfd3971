//! Swap and disk quota of the virtual machine, set by helpers through sudo (04 §11, 01 §19).
//!
//! Both run only at the start, beside the preparation of PGDATA, and must be over before Postgres
//! starts. Command lines are values ([`Helper`]), so that tests can compare them without running
//! them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::os::children::{Children, RunError};

/// Bytes of a helper's output that are kept for the log or the error.
const OUTPUT_LIMIT: usize = 4 << 10;

/// Paths of the programs.
#[derive(Debug, Clone)]
pub struct VmHelpers {
    /// Runs the other two as root.
    pub sudo: PathBuf,
    /// Makes the swap; deletes itself once it has done so with `--once`.
    pub resize_swap: PathBuf,
    /// Sets the quota of a file system.
    pub set_disk_quota: PathBuf,
}

impl Default for VmHelpers {
    fn default() -> Self {
        Self {
            sudo: "/usr/bin/sudo".into(),
            resize_swap: "/neonvm/bin/resize-swap".into(),
            set_disk_quota: "/neonvm/bin/set-disk-quota".into(),
        }
    }
}

/// A command line: program, then arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Path of sudo.
    pub program: PathBuf,
    /// The helper and its arguments.
    pub args: Vec<String>,
}

/// A helper failed.
#[derive(Debug, thiserror::Error)]
pub enum VmHelperError {
    /// The helper could not be run, or did not end in time.
    #[error("could not run {helper}: {error}")]
    Run {
        /// The helper.
        helper: String,
        /// Why.
        error: RunError,
    },
    /// The helper ended with an error.
    #[error("{helper} ended with {status}{}", said(.output))]
    Failed {
        /// The helper.
        helper: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Output of the helper.
        output: String,
    },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

impl VmHelpers {
    /// The command that makes a swap of `bytes`. Zero is passed on.
    pub fn swap_command(&self, bytes: u64) -> Helper {
        // `--once` must come first: sudo's rules and the helper itself ask for it there.
        self.helper(&self.resize_swap, ["--once".to_owned(), bytes.to_string()])
    }

    /// The command that sets the quota of a file system; the helper takes KiB. Zero switches the
    /// quota off, so less than one KiB is rounded up (04 W21).
    pub fn quota_command(&self, bytes: u64, mount_point: &str) -> Helper {
        let kib = if bytes == 0 { 0 } else { (bytes / 1024).max(1) };
        self.helper(&self.set_disk_quota, [kib.to_string(), mount_point.to_owned()])
    }

    fn helper(&self, path: &Path, args: [String; 2]) -> Helper {
        let mut all = vec![path.to_string_lossy().into_owned()];
        all.extend(args);
        Helper { program: self.sudo.clone(), args: all }
    }

    /// Resizes the swap. A missing helper is not an error: it deleted itself after an earlier start
    /// on this machine.
    ///
    /// # Errors
    /// See [`VmHelperError`].
    pub async fn resize_swap(
        &self,
        bytes: u64,
        children: &Children,
        limit: Duration,
    ) -> Result<(), VmHelperError> {
        let result = run(&self.swap_command(bytes), children, limit).await;
        match result {
            Err(VmHelperError::Failed { status, .. })
                if matches!(self.resize_swap.try_exists(), Ok(false)) =>
            {
                let helper = self.resize_swap.display();
                tracing::warn!(
                    "{helper} is gone ({status}): the swap was resized by an earlier start"
                );
                Ok(())
            }
            result => result,
        }
    }

    /// Sets the disk quota.
    ///
    /// # Errors
    /// See [`VmHelperError`].
    pub async fn set_disk_quota(
        &self,
        bytes: u64,
        mount_point: &str,
        children: &Children,
        limit: Duration,
    ) -> Result<(), VmHelperError> {
        run(&self.quota_command(bytes, mount_point), children, limit).await
    }
}

async fn run(helper: &Helper, children: &Children, limit: Duration) -> Result<(), VmHelperError> {
    let name = helper.args.first().cloned().unwrap_or_default();
    let mut command = Command::new(&helper.program);
    command.args(&helper.args);
    let output = children
        .run(command, limit, OUTPUT_LIMIT)
        .await
        .map_err(|error| VmHelperError::Run { helper: name.clone(), error })?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if !output.status.success() {
        return Err(VmHelperError::Failed { helper: name, status: output.status, output: text });
    }
    tracing::info!("ran {}{}", helper.args.join(" "), said(&text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(60);

    /// Case S1 of 04 §15, and 04 W21.
    #[test]
    fn command_lines() {
        let helpers = VmHelpers::default();
        let line =
            |helper: Helper| format!("{} {}", helper.program.display(), helper.args.join(" "));
        assert_eq!(
            line(helpers.swap_command(1_073_741_824)),
            "/usr/bin/sudo /neonvm/bin/resize-swap --once 1073741824"
        );
        for (bytes, kib) in [
            (5_368_709_120, "5242880"),
            (0, "0"),
            (1, "1"),
            (1023, "1"),
            (1024, "1"),
            (2047, "1"),
            (u64::MAX, "18014398509481983"),
        ] {
            assert_eq!(
                line(helpers.quota_command(bytes, "/mnt/x")),
                format!("/usr/bin/sudo /neonvm/bin/set-disk-quota {kib} /mnt/x")
            );
        }
    }

    /// Helpers that note their arguments and then run the script. A shell in the place of sudo
    /// reads them: to be executed, a file must not be open for writing, and a child of another test
    /// can still have it open for a moment.
    fn fake(dir: &Path, script: &str) -> VmHelpers {
        let notes = dir.join("notes");
        for name in ["swap", "quota"] {
            let script = format!("echo {name} \"$@\" >> {}\n{script}\n", notes.display());
            fs::write(dir.join(name), script).unwrap();
        }
        let (resize_swap, set_disk_quota) = (dir.join("swap"), dir.join("quota"));
        VmHelpers { sudo: "/bin/sh".into(), resize_swap, set_disk_quota }
    }

    #[tokio::test]
    async fn helpers_run_through_sudo() {
        let dir = tempfile::tempdir().unwrap();
        let helpers = fake(dir.path(), "");
        let children = Children::new();
        helpers.resize_swap(7, &children, LONG).await.unwrap();
        helpers.set_disk_quota(2048, "/a b", &children, LONG).await.unwrap();
        let notes = fs::read_to_string(dir.path().join("notes")).unwrap();
        assert_eq!(notes, "swap --once 7\nquota 2 /a b\n");
    }

    /// Case S2 of 04 §15.
    #[tokio::test]
    async fn only_a_swap_helper_that_is_gone_may_fail() {
        let dir = tempfile::tempdir().unwrap();
        let helpers = fake(dir.path(), "echo no room >&2; exit 3");
        let children = Children::new();
        let error = helpers.set_disk_quota(7, "/x", &children, LONG).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("quota") && error.contains("exit status: 3: no room"), "{error}");
        let error = helpers.resize_swap(7, &children, LONG).await.unwrap_err();
        assert!(matches!(error, VmHelperError::Failed { .. }), "{error}");

        for gone in [&helpers.resize_swap, &helpers.set_disk_quota] {
            fs::remove_file(gone).unwrap();
        }
        helpers.resize_swap(7, &children, LONG).await.unwrap();
        let error = helpers.set_disk_quota(7, "/x", &children, LONG).await.unwrap_err();
        assert!(matches!(error, VmHelperError::Failed { .. }), "{error}");
    }

    #[tokio::test]
    async fn neither_a_missing_sudo_nor_a_hanging_helper_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let children = Children::new();
        let missing = VmHelpers { sudo: "/no/such/sudo".into(), ..fake(dir.path(), "") };
        let error = missing.resize_swap(7, &children, LONG).await.unwrap_err().to_string();
        assert!(error.contains("could not run") && error.contains("/no/such/sudo"), "{error}");

        let hanging = fake(dir.path(), "sleep 1000");
        let error = hanging.resize_swap(7, &children, Duration::from_millis(100)).await;
        let error = error.unwrap_err();
        assert!(matches!(error, VmHelperError::Run { .. }), "{error}");
    }
}
