//! Users and ports of this machine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use compute_ctl::dev::template::RunAs;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

/// The user that Postgres runs as, if it is not the current one.
#[derive(Debug, Clone, Copy)]
pub struct Owner(pub Option<RunAs>);

impl Owner {
    pub fn find() -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let user = User::from_name("postgres")?.context("there is no user `postgres`")?;
        Ok(Self(Some(RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() })))
    }

    pub fn run_as(self, command: &mut Command) {
        if let Some(RunAs { uid, gid }) = self.0 {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives it a file or a whole folder.
    pub fn hand_over(self, path: &Path) -> anyhow::Result<()> {
        let Some(RunAs { uid, gid }) = self.0 else { return Ok(()) };
        if path.is_symlink() {
            return Ok(());
        }
        chown(path, Some(uid), Some(gid))?;
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                self.hand_over(&entry?.path())?;
            }
        }
        Ok(())
    }
}

/// A folder that every user can read; deleted when dropped.
pub fn open_folder() -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("cctl-bench-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// For Postgres, the external and the internal server.
pub fn free_ports() -> anyhow::Result<[u16; 3]> {
    let listen = || TcpListener::bind("127.0.0.1:0");
    // All open at once, so that they differ.
    let open = [listen()?, listen()?, listen()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&open) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
