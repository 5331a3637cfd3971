//! A compute in a mount namespace of its own, where the fixed paths below `/etc`, `/var` and
//! `/dev` lead into the bed's folder and nothing of the machine is touched.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

/// Mounts as `script` says, then becomes the program of the arguments.
pub fn private_mount(script: &str) -> Command {
    let script = format!("set -e; {script}; cd /; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command
}

/// For a script: what is in `folder` appears in `target`, beside what is there.
pub fn overlaid(folder: &Path, target: &str) -> String {
    format!("mount -t overlay overlay -o 'lowerdir={}:{target}' {target}", folder.display())
}

/// Mounting takes root, and in a container more than that.
pub async fn may_mount(script: &str) -> bool {
    match private_mount(script).arg("true").output().await {
        Ok(Output { status, .. }) if status.success() => true,
        why => {
            println!("skipped: this user may not mount here: {why:?}");
            false
        }
    }
}
