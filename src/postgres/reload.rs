//! Confirms that a reload has happened, without SQL (01 §13.2 step 6).
//!
//! The effect of SIGHUP is not reported: a postmaster that is stopped, or waits for its disk, keeps
//! the old configuration for as long as that lasts. But its file accesses can be observed. On
//! SIGHUP it reads `postgresql.conf` and puts the values in force, signals its children, and then
//! reads `pg_hba.conf`, which no other process of a running server opens. So the file was loaded
//! when its new `postgresql.conf` was opened and `pg_hba.conf` after that.
//!
//! Invariants: the watch is on the file itself, not its name, so that reading the replaced file
//! does not count. Whether Postgres accepts the content is checked earlier, by [`super::staged`].
//! Two events can confirm a reload too early: a reload that another process requested at the same
//! instant, and a superuser who reads `pg_hba_file_rules` at that time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::os::opened::OpenedInTurn;

/// What is known about a reload that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Postgres has read the file.
    Confirmed,
    /// It was told to, and the system does not let us see whether it has.
    Unwatched,
}

/// The reload failed or was not confirmed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The signal could not be sent.
    #[error("could not signal Postgres, process {postmaster}, to reload: {error}")]
    Signal {
        /// Process id of the postmaster.
        postmaster: i32,
        /// Error of the system.
        error: io::Error,
    },
    /// SIGHUP was sent, but the file was not read.
    #[error(
        "Postgres, process {postmaster}, has not read {} within {limit:?} after SIGHUP: it is \
         stopped, or the machine is too busy", path.display()
    )]
    NotConfirmed {
        /// Process id of the postmaster.
        postmaster: i32,
        /// The file that was not read.
        path: PathBuf,
        /// The deadline that passed.
        limit: Duration,
    },
}

/// Requests a reload without waiting for it. The caller holds the postmaster as an unreaped child,
/// so the number cannot belong to another process.
///
/// # Errors
/// [`ReloadError::Signal`].
pub(crate) fn request(postmaster: i32) -> Result<(), ReloadError> {
    kill(Pid::from_raw(postmaster), Signal::SIGHUP)
        .map_err(|errno| ReloadError::Signal { postmaster, error: errno.into() })
}

/// Requests a reload and waits until it has happened. `conf` is the file now in place, `hba` the
/// one that this server uses. If the system does not allow watching files, the reload is only
/// requested, and the log says so. Needs a runtime.
///
/// # Errors
/// See [`ReloadError`]. After [`ReloadError::NotConfirmed`] Postgres may still load the file later.
pub(crate) async fn confirmed(
    postmaster: i32,
    conf: &Path,
    hba: &Path,
    limit: Duration,
) -> Result<Reload, ReloadError> {
    let watch = OpenedInTurn::new(conf, hba);
    request(postmaster)?;
    let seen = match watch {
        Ok(watch) => tokio::time::timeout(limit, watch.wait()).await,
        Err(error) => Ok(Err(error)),
    };
    match seen {
        Ok(Ok(())) => Ok(Reload::Confirmed),
        Ok(Err(error)) => {
            tracing::warn!(
                "Postgres was told to reload, but the reload cannot be confirmed: {error}"
            );
            Ok(Reload::Unwatched)
        }
        Err(_) => Err(ReloadError::NotConfirmed { postmaster, path: conf.to_owned(), limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::{Child, Command};

    /// The two files, and a program that opens them in this order on SIGHUP.
    struct Fake {
        dir: tempfile::TempDir,
        child: Child,
    }

    impl Fake {
        fn start(on_hup: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["conf", "hba"] {
                fs::write(dir.path().join(name), "").unwrap();
            }
            let script = format!("trap '{on_hup}' HUP; : > ready; while :; do sleep 0.01; done");
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]).current_dir(dir.path());
            #[expect(clippy::disallowed_methods, reason = "no reaper runs here")]
            let child = command.spawn().unwrap();
            while !dir.path().join("ready").exists() {
                std::thread::yield_now();
            }
            Self { dir, child }
        }

        async fn reload(&self, limit: Duration) -> Result<Reload, ReloadError> {
            let path = |name: &str| self.dir.path().join(name);
            let pid = self.child.id().cast_signed();
            confirmed(pid, &path("conf"), &path("hba"), limit).await
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn both_files_in_their_order() {
        let reload = Fake::start("cat conf hba").reload(LONG).await.unwrap();
        assert_eq!(reload, Reload::Confirmed);
        for not_a_reload in ["cat conf", "cat hba", "cat hba conf", "true"] {
            let error = Fake::start(not_a_reload).reload(SHORT).await.unwrap_err();
            assert!(matches!(error, ReloadError::NotConfirmed { .. }), "{not_a_reload}: {error}");
            assert!(error.to_string().contains("has not read"), "{error}");
        }
    }

    /// A process that still reads the replaced file has not read the new one.
    #[tokio::test]
    async fn the_file_counts_and_not_its_name() {
        let fake = Fake::start("cat old hba");
        let dir = fake.dir.path();
        fs::rename(dir.join("conf"), dir.join("old")).unwrap();
        fs::write(dir.join("conf"), "").unwrap();
        let error = fake.reload(SHORT).await.unwrap_err();
        assert!(matches!(error, ReloadError::NotConfirmed { .. }), "{error}");
    }

    #[tokio::test]
    async fn without_files_to_watch_the_signal_must_do() {
        let fake = Fake::start("true");
        fs::remove_file(fake.dir.path().join("hba")).unwrap();
        assert_eq!(fake.reload(LONG).await.unwrap(), Reload::Unwatched);
    }
}
