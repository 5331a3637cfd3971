//! A compute in its own mount namespace, where the fixed paths below `/etc`, `/var` and `/dev` lead
//! into the bed's folder and the machine is not changed.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

/// Mounts as `script` says, then execs the program of the arguments.
pub fn private_mount(script: &str) -> Command {
    let script = format!("set -e; {script}; cd /; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command
}

/// A piece of script: the content of `folder` appears in `target`, beside the files of `target`.
pub fn overlaid(folder: &Path, target: &str) -> String {
    format!("mount -t overlay overlay -o 'lowerdir={}:{target}' {target}", folder.display())
}

/// Mounting needs root, and more rights than that in a container.
pub async fn may_mount(script: &str) -> bool {
    match private_mount(script).arg("true").output().await {
        Ok(Output { status, .. }) if status.success() => true,
        why => {
            println!("skipped: this user may not mount here: {why:?}");
            false
        }
    }
}
