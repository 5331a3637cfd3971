//! Configures rsyslogd to forward audit records and the log of Postgres (04 §10).
//!
//! rsyslogd is not our child: init restarts it whenever it ends, and it reads its include files
//! only at its start. So a change writes the file, ends the daemon, and waits for a new one. This
//! runs beside the preparation of PGDATA and must be over before Postgres starts. A daemon of
//! another user that we may not end is not an error: it has the file from its next start on, and the
//! log says whose it is. Invariant: if otherwise the daemon is not restarted after a change, because
//! of an error or because the caller gave up, the file gets its old content back, so that the next
//! try does not find "no change" (04 W18).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::rsyslog_conf::{EndpointError, ExportHostError};
use crate::os::pidfd::ProcessHandle;
use crate::os::procs;
use crate::os::replace_file::{self, Durability, FileError};

/// First and longest pause between two searches for the new daemon. The daemon is a child of init,
/// so no event reports its start.
const LOOK: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(100);
/// Readable for all, because in some images the daemon runs as another user.
const CONF_MODE: u32 = 0o644;

/// Process name and files of rsyslogd.
#[derive(Debug, Clone)]
pub struct RsyslogPaths {
    /// The audit file, an include of the daemon.
    pub audit: PathBuf,
    /// The export file, an include of the daemon.
    pub export: PathBuf,
    /// Folder in which the daemon stores its read positions.
    pub work_folder: PathBuf,
    /// Name of the daemon's process, at most 15 bytes.
    pub program: String,
}

impl Default for RsyslogPaths {
    fn default() -> Self {
        Self {
            audit: "/etc/rsyslog.d/compute_audit_rsyslog.conf".into(),
            export: "/etc/rsyslog.d/postgres_logs.conf".into(),
            work_folder: "/var/log/rsyslog".into(),
            program: "rsyslogd".to_owned(),
        }
    }
}

/// Why forwarding through rsyslogd could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum RsyslogError {
    /// No usable collector in the environment.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No usable host in the spec.
    #[error(transparent)]
    ExportHost(#[from] ExportHostError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// `/proc` cannot be read.
    #[error("could not look for {program}: {error}")]
    Look {
        /// Name of the daemon.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// No new daemon.
    #[error(
        "{program} did not come back within {limit:?} ({ended} were told to end): it must run, and \
         init must start it again whenever it ends"
    )]
    NotRestarted {
        /// Name of the daemon.
        program: String,
        /// The deadline.
        limit: Duration,
        /// How many processes got a signal.
        ended: usize,
    },
}

/// Handle for configuring rsyslogd.
#[derive(Debug)]
pub struct Rsyslog {
    paths: RsyslogPaths,
    restart_limit: Duration,
}

/// One daemon.
#[derive(Debug, Clone, Copy)]
struct Daemon {
    pid: i32,
    started: u64,
    owner: u32,
}

impl Daemon {
    /// The owner is left out: some daemons step down from root soon after their start.
    fn is(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

impl Rsyslog {
    /// Touches nothing. A restart may take `restart_limit`.
    pub fn new(paths: RsyslogPaths, restart_limit: Duration) -> Self {
        Self { paths, restart_limit }
    }

    /// Puts both files in force, with at most one restart: the audit file if `audit` has a text,
    /// the export file if it has changed. An empty export file causes no restart, because Postgres
    /// stops sending anyway; it takes effect with the next one.
    ///
    /// # Errors
    /// See [`RsyslogError`]. Both files then have their old content.
    pub async fn apply(&self, audit: Option<&str>, export: &str) -> Result<(), RsyslogError> {
        let mut rewritten = Vec::new();
        if let Some(text) = audit {
            rewritten.push(Rewritten::new(&self.paths.audit, text)?);
        }
        let path = &self.paths.export;
        let present = read_if_there(path).map_err(FileError::at("read", path))?;
        if present.as_deref().unwrap_or_default() != export.as_bytes() {
            if export.is_empty() {
                // The old content does no harm.
                if let Err(error) =
                    replace_file::replace(path, b"", CONF_MODE, Durability::Throwaway)
                {
                    tracing::warn!("the log export is off, but {error}");
                }
            } else {
                rewritten.push(Rewritten::new(path, export)?);
            }
        }
        if !rewritten.is_empty() {
            let paths: Vec<_> = rewritten.iter().map(|file| file.path.as_path()).collect();
            self.restart(&paths).await?;
            rewritten.into_iter().for_each(Rewritten::keep);
        }
        Ok(())
    }

    /// Ends the daemons and waits for a new one. Half-way to the deadline it kills daemons that do
    /// not end (for example because they try to reach a dead collector). Daemons that we may not end
    /// stay as they are.
    async fn restart(&self, files: &[&Path]) -> Result<(), RsyslogError> {
        let old = self.daemons()?;
        let mut foreign = Vec::new();
        for (step, signal) in [(1, Signal::SIGTERM), (2, Signal::SIGKILL)] {
            foreign.clear();
            foreign.extend(old.iter().filter(|daemon| !self.end(daemon, signal)));
            if !foreign.is_empty() && foreign.len() == old.len() {
                self.say_whose(&foreign, files);
                return Ok(());
            }
            let limit = self.restart_limit / 2;
            if let Ok(found) = tokio::time::timeout(limit, self.new_daemon(&old)).await {
                tracing::info!("{} was started again, process {}", self.paths.program, found?.pid);
                return Ok(());
            }
            if step == 1 && !old.is_empty() {
                tracing::warn!("{} does not come back, killing it", self.paths.program);
            }
        }
        if !foreign.is_empty() {
            // Ours ended and is not started again; the other goes on.
            self.say_whose(&foreign, files);
            return Ok(());
        }
        Err(RsyslogError::NotRestarted {
            program: self.paths.program.clone(),
            limit: self.restart_limit,
            ended: old.len(),
        })
    }

    /// The daemon runs, so this is not a failure (04 §10.2); but it does not know the files yet.
    fn say_whose(&self, foreign: &[&Daemon], files: &[&Path]) {
        let program = &self.paths.program;
        let me = procs::user(geteuid().as_raw());
        let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
        for Daemon { pid, owner, .. } in foreign {
            let owner = procs::user(*owner);
            tracing::warn!(
                "{program}, process {pid}, belongs to {owner}, and compute_ctl runs as {me}, which \
                 may not restart it: it does not read {} until it is restarted; restart it as \
                 {owner}, or let init run it as {me}",
                files.join(" and ")
            );
        }
    }

    async fn new_daemon(&self, old: &[Daemon]) -> Result<Daemon, RsyslogError> {
        let mut pause = LOOK;
        loop {
            let is_new = |found: &Daemon| !old.iter().any(|it| it.is(found));
            if let Some(found) = self.daemons()?.into_iter().find(is_new) {
                return Ok(found);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// The daemons of all users: which of them read our files, only their configuration tells.
    fn daemons(&self) -> Result<Vec<Daemon>, RsyslogError> {
        let program = &self.paths.program;
        let all =
            procs::all().map_err(|error| RsyslogError::Look { program: program.clone(), error })?;
        let alive = all.into_iter().filter(|process| !process.zombie);
        let daemons = alive.filter(|it| procs::name(it.pid).as_deref() == Some(program.as_str()));
        Ok(daemons
            .filter_map(|procs::Process { pid, started, .. }| {
                Some(Daemon { pid, started, owner: procs::owner(pid)? })
            })
            .collect())
    }

    /// Sends a signal; false if we may not. A daemon that has ended needs none.
    fn end(&self, daemon: &Daemon, signal: Signal) -> bool {
        let &Daemon { pid, started, .. } = daemon;
        let Some(handle) = ProcessHandle::open(pid) else { return true };
        // Another process may have got the number before the handle was opened.
        if procs::get(pid).is_none_or(|process| process.started != started) {
            return true;
        }
        match handle.signal(signal) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
            Err(error) => {
                let program = &self.paths.program;
                tracing::warn!("could not send {signal} to {program}, process {pid}: {error}");
                true
            }
            Ok(()) => true,
        }
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file with new content that no daemon has read yet. Dropping this restores the old content.
#[derive(Debug)]
#[must_use = "dropping it brings the old content back"]
struct Rewritten {
    path: PathBuf,
    before: Option<Vec<u8>>,
    kept: bool,
}

impl Rewritten {
    fn new(path: &Path, text: &str) -> Result<Self, FileError> {
        let before = read_if_there(path).map_err(FileError::at("read", path))?;
        replace_file::replace(path, text.as_bytes(), CONF_MODE, Durability::Throwaway)?;
        Ok(Self { path: path.to_owned(), before, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Rewritten {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let restored = match &self.before {
            Some(before) => {
                replace_file::replace(&self.path, before, CONF_MODE, Durability::Throwaway)
            }
            None => fs::remove_file(&self.path).map_err(FileError::at("remove", &self.path)),
        };
        if let Err(error) = restored {
            tracing::warn!("a file with settings that rsyslogd did not take stays: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::children::{Children, RegisteredChild};
    use tempfile::TempDir;
    use tokio::process::Command;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);

    /// A fake daemon: `sleep` under a name that no other process has.
    struct Bed {
        dir: TempDir,
        rsyslog: Rsyslog,
    }

    fn bed(limit: Duration) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let program = format!("rs{:x}", fastrand::u32(..));
        std::os::unix::fs::symlink("/bin/sleep", dir.path().join(&program)).unwrap();
        let paths = RsyslogPaths {
            audit: dir.path().join("audit.conf"),
            export: dir.path().join("export.conf"),
            work_folder: dir.path().to_owned(),
            program,
        };
        Bed { dir, rsyslog: Rsyslog::new(paths, limit) }
    }

    impl Bed {
        fn spawn(&self) -> RegisteredChild {
            let mut command = Command::new(self.dir.path().join(&self.rsyslog.paths.program));
            let mut child = Children::new().spawn({
                command.arg("1000");
                command
            });
            child.as_mut().unwrap().kill_on_drop(true);
            child.unwrap()
        }

        /// Plays init: starts the daemon again when it ends. Returns the last daemon.
        async fn init(&self, mut daemon: RegisteredChild) -> RegisteredChild {
            daemon.wait().await.unwrap();
            self.spawn()
        }

        fn text(&self, path: &Path) -> Option<String> {
            read_if_there(path).unwrap().map(|text| String::from_utf8(text).unwrap())
        }
    }

    #[tokio::test]
    async fn both_files_and_one_restart() {
        let bed = bed(LONG);
        let paths = &bed.rsyslog.paths;
        let (applied, daemon) =
            tokio::join!(bed.rsyslog.apply(Some("audit"), "export"), bed.init(bed.spawn()));
        applied.unwrap();
        assert_eq!(bed.text(&paths.audit).as_deref(), Some("audit"));
        assert_eq!(bed.text(&paths.export).as_deref(), Some("export"));
        // Nothing new: the daemon stays. The test would hang if it did not.
        bed.rsyslog.apply(None, "export").await.unwrap();
        // The host is gone: no restart either (case R4 of 04 §15).
        bed.rsyslog.apply(None, "").await.unwrap();
        assert_eq!(bed.text(&paths.export).as_deref(), Some(""));
        assert!(procs::get(daemon.pid()).is_some_and(|p| !p.zombie));
    }

    /// Without a host and a file nothing is touched, even if the folder does not exist.
    #[tokio::test]
    async fn a_machine_without_rsyslog() {
        let mut bed = bed(SHORT);
        bed.rsyslog.paths.export = "/no/such/folder/export.conf".into();
        bed.rsyslog.apply(None, "").await.unwrap();
    }

    /// Case R5 of 04 §15: a dying daemon does not count as the new one, and the next try does not
    /// take the file for unchanged.
    #[tokio::test]
    async fn a_daemon_that_does_not_come_back() {
        let bed = bed(SHORT);
        let paths = &bed.rsyslog.paths;
        fs::write(&paths.export, "before").unwrap();
        let mut daemon = bed.spawn();
        for expected in [1, 0] {
            let error = bed.rsyslog.apply(Some("audit"), "export").await.unwrap_err();
            let RsyslogError::NotRestarted { ended, .. } = error else { panic!("{error}") };
            assert_eq!(ended, expected);
            assert_eq!(bed.text(&paths.audit), None);
            assert_eq!(bed.text(&paths.export).as_deref(), Some("before"));
            daemon.wait().await.unwrap();
        }
    }

    #[tokio::test]
    async fn giving_up_brings_the_files_back() {
        let bed = bed(LONG);
        let paths = &bed.rsyslog.paths;
        let mut applying = Box::pin(bed.rsyslog.apply(Some("audit"), "export"));
        let waited = tokio::time::timeout(SHORT, &mut applying).await;
        assert!(waited.is_err());
        assert_eq!(bed.text(&paths.export).as_deref(), Some("export"), "on its way");
        drop(applying);
        assert_eq!((bed.text(&paths.audit), bed.text(&paths.export)), (None, None));
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_end_is_killed() {
        let bed = bed(Duration::from_secs(4));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; exec \"$0\" 1000"]);
        command.arg(bed.dir.path().join(&bed.rsyslog.paths.program));
        let mut stubborn = Children::new().spawn(command).unwrap();
        stubborn.kill_on_drop(true);
        while bed.rsyslog.daemons().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let (applied, _daemon) =
            tokio::join!(bed.rsyslog.apply(None, "export"), bed.init(stubborn));
        applied.unwrap();
    }
}
