//! Tunes pgbouncer: settings into its INI file, then `RELOAD` on its admin console (04 §8).
//!
//! The tuning runs beside the start and every reconfiguration and never delays or fails them: all
//! errors are logged. The file comes first, so that a pgbouncer that is down, or starts later, has
//! the settings too (04 W16). pgbouncer is not our child: init starts it, and we share only its
//! file. Invariants: one tuning at a time, and only the newest one waits; the password is in no log
//! line and no error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indexmap::IndexMap;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::ini::{self, IniError};
use super::latest_job::{LatestJob, Superseded};
use crate::errors::one_line;
use crate::os::replace_file::{self, Durability, FileError};
use crate::secret::Secret;
use crate::spec::wire::TlsConfig;

/// The section for all settings.
const SECTION: &str = "pgbouncer";
/// Database of the admin console.
const CONSOLE: &str = "pgbouncer";
/// Pause between two checks for the key of the certificate.
const KEY_POLL: Duration = Duration::from_millis(500);
/// Mode of the INI file if it vanishes during an edit; it may hold passwords.
const INI_MODE: u32 = 0o600;

/// File and console of pgbouncer.
#[derive(Debug, Clone)]
pub struct PgbouncerPaths {
    /// Its configuration file. Must exist.
    pub ini: PathBuf,
    /// Host name, or the folder of its socket.
    pub host: String,
    /// Port, also part of the socket's name.
    pub port: u16,
    /// User name for the admin console.
    pub user: String,
    /// Password for the console; none is sent over the socket.
    pub password: Option<Secret<String>>,
}

impl Default for PgbouncerPaths {
    /// The paths in a pod: console on the loopback interface, no password.
    fn default() -> Self {
        Self {
            ini: "/var/db/postgres/pgbouncer/pgbouncer.ini".into(),
            host: "localhost".to_owned(),
            port: 6432,
            user: "postgres".to_owned(),
            password: None,
        }
    }
}

impl PgbouncerPaths {
    /// Chooses by the environment (04 §13): a virtual machine (`AUTOSCALING`) has the console on a
    /// socket that identifies us by our user; elsewhere `PGBOUNCER_PASSWORD` is used if set.
    pub fn new(autoscaling: bool, password: Option<Secret<String>>) -> Self {
        if !autoscaling {
            return Self { password, ..Self::default() };
        }
        Self {
            ini: "/etc/pgbouncer.ini".into(),
            host: "/tmp".to_owned(),
            user: CONSOLE.to_owned(),
            ..Self::default()
        }
    }

    /// The connection as a value instead of a string, so that nothing needs quoting.
    fn console(&self, limit: Duration) -> Config {
        let mut config = Config::new();
        // A host that begins with a slash is the folder of a socket.
        config.host(&self.host).port(self.port).dbname(CONSOLE).user(&self.user);
        config.ssl_mode(SslMode::Disable).connect_timeout(limit);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        config
    }
}

/// Deadlines of a tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgbouncerLimits {
    /// One try to connect and authenticate.
    pub connect: Duration,
    /// Tries to connect.
    pub attempts: u32,
    /// Between two tries.
    pub pause: Duration,
    /// The answer to `RELOAD`.
    pub reload: Duration,
    /// Wait for the key of the certificate.
    pub key: Duration,
}

impl Default for PgbouncerLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            attempts: 4,
            pause: Duration::from_secs(1),
            reload: Duration::from_secs(10),
            key: Duration::from_secs(60),
        }
    }
}

/// Why pgbouncer does not have its new settings.
#[derive(Debug, thiserror::Error)]
pub enum PgbouncerError {
    /// The INI file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The INI file or a setting of the spec does not allow an edit.
    #[error("could not set pgbouncer_settings in {path}: {error}", path = path.display())]
    Ini {
        /// The file.
        path: PathBuf,
        /// Why.
        error: IniError,
    },
    /// The file is written; the console cannot be reached.
    #[error(
        "{path} is up to date, but pgbouncer could not be told: no connection to its admin \
         console at {console} in {attempts} attempts{}",
        error.as_ref().map_or_else(String::new, |e| format!(": {}", one_line(e))),
        path = path.display()
    )]
    Connect {
        /// The file.
        path: PathBuf,
        /// Host and port.
        console: String,
        /// How often it was tried.
        attempts: u32,
        /// The error of the last try; none if a time limit ended it.
        error: Option<tokio_postgres::Error>,
    },
    /// The file is written; pgbouncer refused to reload it.
    #[error("pgbouncer did not RELOAD: {}", one_line(.0))]
    Reload(tokio_postgres::Error),
    /// The file is written; pgbouncer did not answer.
    #[error("pgbouncer did not answer to RELOAD within {0:?}")]
    ReloadTimedOut(Duration),
}

/// The settings to apply to pgbouncer.
#[derive(Debug)]
pub struct Tuning {
    /// Settings in the order of the spec. Values may hold passwords.
    pub settings: IndexMap<String, Secret<String>>,
    /// TLS towards clients, if it is active (04 §7.1): the source paths, not the copies that
    /// Postgres has.
    pub tls: Option<TlsConfig>,
}

/// Handle for tuning pgbouncer.
#[derive(Debug)]
pub struct Pgbouncer {
    shared: Arc<Shared>,
    tunings: LatestJob<Job>,
}

#[derive(Debug)]
enum Job {
    Tune(Tuning),
    Reload,
}

#[derive(Debug)]
struct Shared {
    paths: PgbouncerPaths,
    limits: PgbouncerLimits,
    /// Whether a tuning has put the paths of a certificate into the file.
    serves_tls: AtomicBool,
}

impl Pgbouncer {
    /// Touches nothing.
    pub fn new(paths: PgbouncerPaths, limits: PgbouncerLimits) -> Self {
        let shared = Shared { paths, limits, serves_tls: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), tunings: LatestJob::default() }
    }

    /// Tunes pgbouncer in the background. Replaces a tuning that still waits; a tuning that has
    /// written its file stops its work on the console. Needs a runtime.
    pub fn tune_in_background(&self, tuning: Tuning) {
        self.put(Job::Tune(tuning));
    }

    /// Lets pgbouncer read a certificate that was renewed under the same paths, if an earlier
    /// tuning has set these paths (04 W6).
    pub fn certificate_renewed(&self) {
        if self.shared.serves_tls.load(Ordering::Relaxed) {
            self.put(Job::Reload);
        }
    }

    fn put(&self, job: Job) {
        let shared = Arc::clone(&self.shared);
        self.tunings.put(job, move |job, superseded| {
            let shared = Arc::clone(&shared);
            async move { shared.run(&job, superseded).await }
        });
    }
}

impl Shared {
    async fn run(&self, job: &Job, mut superseded: Superseded<Job>) {
        if let Job::Tune(tuning) = job
            && let Err(error) = self.edit(tuning).await
        {
            tracing::error!("error while tuning pgbouncer: {error}");
            return;
        }
        tokio::select! {
            result = self.reload() => match result {
                Ok(()) => tracing::info!("pgbouncer has reloaded its configuration"),
                Err(error) => tracing::error!("error while tuning pgbouncer: {error}"),
            },
            () = superseded.wait() => tracing::info!("newer settings for pgbouncer have come"),
        }
    }

    /// Writes the file: the settings of the spec, then those of TLS, which override them.
    async fn edit(&self, tuning: &Tuning) -> Result<(), PgbouncerError> {
        let mut entries = tuning.settings.clone();
        if let Some(tls) = &tuning.tls {
            if self.key_is_there(Path::new(&tls.key_path)).await {
                entries.extend(tls_settings(tls));
                self.serves_tls.store(true, Ordering::Relaxed);
            } else {
                tracing::error!(
                    "pgbouncer stays without TLS: its key {} is not there after {:?}",
                    tls.key_path,
                    self.limits.key
                );
            }
        }
        let path = self.paths.ini.clone();
        let edited = tokio::task::spawn_blocking(move || edit_file(&path, &entries)).await;
        // An error here is a panic, which has its own line in the log, or the end of the runtime.
        edited.unwrap_or(Ok(()))
    }

    async fn key_is_there(&self, key: &Path) -> bool {
        let appears = async {
            while !tokio::fs::try_exists(key).await.unwrap_or(false) {
                tokio::time::sleep(KEY_POLL).await;
            }
        };
        tokio::time::timeout(self.limits.key, appears).await.is_ok()
    }

    async fn reload(&self) -> Result<(), PgbouncerError> {
        let PgbouncerLimits { connect, attempts, pause, reload: limit, .. } = self.limits;
        let config = self.paths.console(connect);
        let mut last = None;
        for attempt in 1..=attempts {
            if attempt > 1 {
                tokio::time::sleep(pause).await;
            }
            match tokio::time::timeout(connect, config.connect(NoTls)).await {
                Ok(Ok((client, connection))) => {
                    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
                    // The console speaks the simple protocol only.
                    let answer = tokio::time::timeout(limit, client.batch_execute("RELOAD")).await;
                    return match answer {
                        Ok(answer) => answer.map_err(PgbouncerError::Reload),
                        Err(_) => Err(PgbouncerError::ReloadTimedOut(limit)),
                    };
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = None,
            }
        }
        Err(PgbouncerError::Connect {
            path: self.paths.ini.clone(),
            console: format!("{}:{}", self.paths.host, self.paths.port),
            attempts,
            error: last,
        })
    }
}

fn tls_settings(tls: &TlsConfig) -> [(String, Secret<String>); 3] {
    [
        ("client_tls_cert_file", tls.cert_path.as_str()),
        ("client_tls_key_file", tls.key_path.as_str()),
        ("client_tls_sslmode", "allow"),
    ]
    .map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())))
}

/// Puts settings into an INI file, which is replaced in one step and keeps its mode and owner.
/// A file that has the settings already is not written.
///
/// # Errors
/// The file or its section does not exist, or a setting cannot be written.
pub fn edit_file(
    path: &Path,
    settings: &IndexMap<String, Secret<String>>,
) -> Result<(), PgbouncerError> {
    let entries: Vec<_> =
        settings.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
    let before = std::fs::read(path).map_err(FileError::at("read", path))?;
    let after = ini::set(&before, SECTION, &entries)
        .map_err(|error| PgbouncerError::Ini { path: path.to_owned(), error })?;
    if after != before {
        replace_file::replace(path, &after, INI_MODE, Durability::Kept)?;
        let names: Vec<_> = settings.keys().map(String::as_str).collect();
        tracing::info!("set in {}: {}", path.display(), names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
