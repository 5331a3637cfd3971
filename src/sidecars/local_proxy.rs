//! Configures local_proxy: a JSON file, then SIGHUP to the process that holds the pid file (04 §9).
//!
//! local_proxy is not our child; it reads the file when it starts, and again on SIGHUP. The work
//! runs beside the start and every reconfiguration, and after every change of the certificate, which
//! local_proxy reads at the same moments; errors are logged (04 W17). A primary whose catalog is
//! updated starts only if the file can be written (04 §9.1 b). Invariant: the pid file is only read,
//! and only the process that it names while its lock is held gets a signal, whatever its program
//! is called.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use super::latest_job::LatestJob;
use crate::os::denied::explained;
use crate::os::replace_file::{self, Durability, FileError};
use crate::sidecars::pid_files::{self, PidFile};
use crate::spec::wire::{LocalProxyConfig, LocalProxyJwks, TlsConfig};

/// Between two reads of a pid file that is locked but empty: its owner is just starting.
const BLANK_POLL: Duration = Duration::from_millis(20);
/// Mode of a new configuration file; it holds no secrets.
const CONFIG_MODE: u32 = 0o644;

/// Files of local_proxy.
#[derive(Debug, Clone)]
pub struct LocalProxyPaths {
    /// Its configuration.
    pub config: PathBuf,
    /// Its pid file.
    pub pid: PathBuf,
}

impl Default for LocalProxyPaths {
    fn default() -> Self {
        Self { config: "/etc/local_proxy/config.json".into(), pid: "/etc/local_proxy/pid".into() }
    }
}

/// Why local_proxy does not have its new configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalProxyError {
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration cannot be written as JSON; does not happen.
    #[error("local_proxy_config cannot be written as JSON: {0}")]
    Json(serde_json::Error),
    /// The pid file exists and cannot be read.
    #[error("could not read local_proxy's pid file {path}: {error}", path = path.display())]
    PidFile {
        /// The pid file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A process locks the pid file, but has not written its number.
    #[error(
        "local_proxy's pid file {path} is held, but there was no process number in it for \
         {waited:?}; it reads its configuration when its start goes on",
        path = path.display()
    )]
    NoNumber {
        /// The pid file.
        path: PathBuf,
        /// How long this process waited for the number.
        waited: Duration,
    },
    /// The number is that of this process.
    #[error(
        "local_proxy's pid file {path} is held, but names compute_ctl itself: it was not signalled",
        path = path.display()
    )]
    NamesUs {
        /// The pid file.
        path: PathBuf,
    },
    /// The owner cannot be signalled.
    #[error("could not send SIGHUP to local_proxy, process {pid}: {error}")]
    Signal {
        /// The owner of the pid file.
        pid: i32,
        /// Why.
        error: Errno,
    },
}

/// The file's shape: members in this order, absent ones left out (02 §11.1).
#[derive(Serialize)]
struct Document<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<&'a [LocalProxyJwks]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a TlsConfig>,
}

/// Text of the file: two blanks of indentation, no line feed at the end. It has the active `tls`,
/// never the one of the spec (04 §7.1).
///
/// # Errors
/// None in practice.
pub(crate) fn document(
    config: &LocalProxyConfig,
    tls: Option<&TlsConfig>,
) -> Result<String, LocalProxyError> {
    serde_json::to_string_pretty(&Document { jwks: config.jwks.as_deref(), tls })
        .map_err(LocalProxyError::Json)
}

/// Which process a notification reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notified {
    /// This process got SIGHUP.
    Owner(i32),
    /// No local_proxy runs; the next one to start reads the file.
    NoOwner,
}

/// Handle for configuring local_proxy.
#[derive(Debug)]
pub(crate) struct LocalProxy {
    paths: Arc<LocalProxyPaths>,
    blank_limit: Duration,
    jobs: LatestJob<String>,
}

impl LocalProxy {
    /// Touches nothing. A locked but empty pid file is read again for at most `blank_limit`.
    pub(crate) fn new(paths: LocalProxyPaths, blank_limit: Duration) -> Self {
        Self { paths: Arc::new(paths), blank_limit, jobs: LatestJob::default() }
    }

    /// Writes the configuration now, and signals nothing.
    ///
    /// # Errors
    /// The first two of [`LocalProxyError`].
    pub(crate) fn write(
        &self,
        config: &LocalProxyConfig,
        tls: Option<&TlsConfig>,
    ) -> Result<(), LocalProxyError> {
        Ok(write(&self.paths, &document(config, tls)?)?)
    }

    /// Writes the configuration and signals local_proxy, in the background; one job at a time, the
    /// newest wins. Needs a runtime.
    pub(crate) fn configure_in_background(
        &self,
        config: &LocalProxyConfig,
        tls: Option<&TlsConfig>,
    ) {
        let text = match document(config, tls) {
            Ok(text) => text,
            Err(error) => return tracing::error!("error while configuring local_proxy: {error}"),
        };
        let (paths, limit) = (Arc::clone(&self.paths), self.blank_limit);
        self.jobs.put(text, move |text, _| {
            let paths = Arc::clone(&paths);
            async move {
                match configure(&paths, &text, limit).await {
                    Ok(Notified::Owner(pid)) => {
                        tracing::info!("local_proxy, process {pid}, has a new configuration");
                    }
                    Ok(Notified::NoOwner) => {
                        tracing::info!("wrote {}, no local_proxy runs", paths.config.display());
                    }
                    Err(error) => tracing::error!("error while configuring local_proxy: {error}"),
                }
            }
        });
    }
}

/// Writes the file, then signals the owner of the pid file.
///
/// # Errors
/// See [`LocalProxyError`]; all but the first two leave the new file in place.
pub(crate) async fn configure(
    paths: &LocalProxyPaths,
    text: &str,
    blank_limit: Duration,
) -> Result<Notified, LocalProxyError> {
    write(paths, text)?;
    notify(&paths.pid, blank_limit).await
}

fn write(paths: &LocalProxyPaths, text: &str) -> Result<(), FileError> {
    replace_file::replace(&paths.config, text.as_bytes(), CONFIG_MODE, Durability::Throwaway)
}

async fn notify(path: &Path, blank_limit: Duration) -> Result<Notified, LocalProxyError> {
    let look = async {
        loop {
            match pid_files::try_read_pid_file(path) {
                Ok(PidFile::HeldWithoutNumber) => tokio::time::sleep(BLANK_POLL).await,
                other => return other,
            }
        }
    };
    let found = match tokio::time::timeout(blank_limit, look).await {
        Ok(found) => found
            .map_err(|error| explained(error, path))
            .map_err(|error| LocalProxyError::PidFile { path: path.to_owned(), error })?,
        Err(_) => {
            return Err(LocalProxyError::NoNumber { path: path.to_owned(), waited: blank_limit });
        }
    };
    let PidFile::Held(pid) = found else { return Ok(Notified::NoOwner) };
    if pid_files::is_us(pid) {
        return Err(LocalProxyError::NamesUs { path: path.to_owned() });
    }
    match kill(Pid::from_raw(pid), Signal::SIGHUP) {
        Ok(()) => Ok(Notified::Owner(pid)),
        Err(error) => Err(LocalProxyError::Signal { pid, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::children::Children;
    use nix::fcntl::{Flock, FlockArg};
    use std::fs::{self, File};
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};

    const LIMIT: Duration = Duration::from_secs(5);

    fn config() -> LocalProxyConfig {
        serde_json::from_value(serde_json::json!({
            "jwks": [{
                "id": "jw-1",
                "role_names": ["authenticated", "anon"],
                "jwks_url": "https://idp.example.org/.well-known/jwks.json",
                "provider_name": "example",
                "jwt_audience": null
            }],
            "tls": {"key_path": "/of/the/spec", "cert_path": "/of/the/spec"}
        }))
        .unwrap()
    }

    /// 04 §9.2, and case P1 of 04 §15.
    #[test]
    fn the_documented_file() {
        let tls = TlsConfig {
            key_path: "/var/secrets/tls/tls.key".to_owned(),
            cert_path: "/var/secrets/tls/tls.crt".to_owned(),
        };
        let expected = r#"{
  "jwks": [
    {
      "id": "jw-1",
      "role_names": [
        "authenticated",
        "anon"
      ],
      "jwks_url": "https://idp.example.org/.well-known/jwks.json",
      "provider_name": "example",
      "jwt_audience": null
    }
  ],
  "tls": {
    "key_path": "/var/secrets/tls/tls.key",
    "cert_path": "/var/secrets/tls/tls.crt"
  }
}"#;
        assert_eq!(document(&config(), Some(&tls)).unwrap(), expected);
        let without = document(&config(), None).unwrap();
        assert!(!without.contains("tls") && without.ends_with("  ]\n}"), "{without}");
        let empty = LocalProxyConfig { jwks: None, tls: Some(tls) };
        assert_eq!(document(&empty, None).unwrap(), "{}");
    }

    struct Bed {
        _dir: tempfile::TempDir,
        paths: LocalProxyPaths,
    }

    fn bed() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let paths =
            LocalProxyPaths { config: dir.path().join("config.json"), pid: dir.path().join("pid") };
        Bed { _dir: dir, paths }
    }

    fn hold(path: &Path, text: &str) -> Flock<File> {
        fs::write(path, text).unwrap();
        Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap()
    }

    /// Case P2 of 04 §15.
    #[tokio::test]
    async fn only_the_owner_of_the_lock_is_told() {
        let bed = bed();
        let configure = || configure(&bed.paths, "{}", LIMIT);
        assert_eq!(configure().await.unwrap(), Notified::NoOwner, "no pid file");

        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done"]);
        command.stdout(Stdio::piped());
        let mut child = Children::new().spawn(command).unwrap();
        child.kill_on_drop(true);
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");

        // An old number and no lock: a signal would arrive before those below.
        fs::write(&bed.paths.pid, child.pid().to_string()).unwrap();
        assert_eq!(configure().await.unwrap(), Notified::NoOwner);
        for text in [child.pid().to_string(), format!("{}\n", child.pid())] {
            let lock = hold(&bed.paths.pid, &text);
            assert_eq!(configure().await.unwrap(), Notified::Owner(child.pid()));
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "hup");
            drop(lock);
        }
        assert_eq!(fs::read_to_string(&bed.paths.config).unwrap(), "{}");
    }

    #[tokio::test]
    async fn an_owner_that_has_not_written_its_number_yet() {
        let bed = bed();
        let lock = hold(&bed.paths.pid, "");
        let error = configure(&bed.paths, "{}", Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, LocalProxyError::NoNumber { .. }), "{error}");

        let writes = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            // No process can have this number.
            fs::write(&bed.paths.pid, "2147483647").unwrap();
        };
        let (result, ()) = tokio::join!(configure(&bed.paths, "{}", LIMIT), writes);
        let error = result.unwrap_err();
        assert!(matches!(error, LocalProxyError::Signal { pid: i32::MAX, .. }), "{error}");
        drop(lock);
    }

    #[tokio::test]
    async fn a_pid_file_that_names_this_process() {
        let bed = bed();
        // SIGHUP would end the test.
        let _lock = hold(&bed.paths.pid, &std::process::id().to_string());
        let error = configure(&bed.paths, "{}", LIMIT).await.unwrap_err();
        assert!(matches!(error, LocalProxyError::NamesUs { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_is_an_error_with_its_name() {
        let bed = bed();
        let paths =
            LocalProxyPaths { config: "/no/such/dir/config.json".into(), ..bed.paths.clone() };
        let error = configure(&paths, "{}", LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/dir/config.json"), "{error}");
    }
}
