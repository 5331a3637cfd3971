//! Sources of the configuration (01 §5.2).

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::{Uid, User};
use parking_lot::Mutex;
use thiserror::Error;

use super::bare::BareSpec;
use super::control_plane::{self, ControlPlane, ControlPlaneError, Observer, Patience};
use super::document::{self, DocumentError, Parsed};
use super::wire::{ComputeCtlConfig, ConfigDocument};
use crate::os::denied;

/// The source on the command line. A refresh reads the same source again.
#[derive(Debug, Clone)]
pub enum ConfigSource {
    /// `--config`: a configuration document.
    ConfigFile(PathBuf),
    /// `--spec`: a bare spec, the older form.
    SpecFile(PathBuf),
    /// `--control-plane-uri`.
    ControlPlane(ControlPlane),
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigFile(path) | Self::SpecFile(path) => path.display().fmt(f),
            Self::ControlPlane(_) => f.write_str("from the control plane"),
        }
    }
}

/// Why no configuration could be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("could not read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The user that the process runs as may not read the file.
    #[error(
        "could not read {} as user {user}: {owner}let that user read it with chown or chmod. A start \
         as root reads the configuration as root, a refresh reads it as the user that compute_ctl \
         runs as", path.display()
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// The user that the process runs as.
        user: String,
        /// The owner of what refuses.
        owner: String,
    },
    /// The file is empty.
    #[error(
        "could not parse {}: the file is empty (line 1 column 0): a pipe gives its content only once, a refresh needs a file",
        .0.display()
    )]
    Empty(PathBuf),
    /// The file is not the expected document.
    #[error("could not parse {}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with path, line and column.
        error: DocumentError,
    },
    /// The control plane gave no configuration.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
}

impl SourceError {
    /// Path of the member that cannot be read, if the file is not the expected document.
    pub(crate) fn member(&self) -> Option<&str> {
        match self {
            Self::Parse { error, .. } => Some(error.path()),
            _ => None,
        }
    }
}

#[derive(Debug, Error)]
#[error("it gave no content within {0:?}")]
struct Silent(Duration);

/// Files that are being read. A reader that hangs keeps its thread, so no second reader is started
/// for the same file.
static READING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The only reader of a file; dropping it allows the next one.
struct Reading(PathBuf);

impl Reading {
    /// `None` while another reader reads the file.
    fn begin(path: &Path) -> Option<Self> {
        let mut reading = READING.lock();
        reading.insert(path.to_owned()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.lock().remove(&self.0);
    }
}

impl ConfigSource {
    /// Reads the configuration if it is in a file, within `limit`, before the runtime exists. The
    /// reading thread outlives the call only after a timeout.
    pub fn read_file(
        &self,
        limit: Duration,
    ) -> Result<Option<Parsed<ConfigDocument>>, SourceError> {
        let (path, read): (_, fn(&Path) -> _) = match self {
            Self::ConfigFile(path) => (path.clone(), read_config),
            Self::SpecFile(path) => (path.clone(), read_spec),
            Self::ControlPlane(_) => return Ok(None),
        };
        let failed = |error| SourceError::Read { path: path.clone(), error };
        let (done, parsed) = mpsc::sync_channel(1);
        let reader = std::thread::Builder::new().name("configuration".to_owned()).spawn({
            let path = path.clone();
            move || drop(done.send(read(&path)))
        });
        let reader = reader.map_err(failed)?;
        let parsed = parsed
            .recv_timeout(limit)
            .map_err(|_| failed(io::Error::new(io::ErrorKind::TimedOut, Silent(limit))))?;
        // The thread has finished its work.
        let _ = reader.join();
        parsed.map(Some)
    }

    /// The document that was read before the runtime existed, or else [`Self::load`].
    pub async fn load_unless_read(
        &self,
        read: Option<Parsed<ConfigDocument>>,
        patience: Patience,
        observer: Observer<'_>,
    ) -> Result<ConfigDocument, SourceError> {
        let (Self::ConfigFile(path) | Self::SpecFile(path), Some(read)) = (self, read) else {
            return self.load(patience, observer).await;
        };
        document::log_unknown_members(&path.display().to_string(), &read.unknown_members);
        Ok(read.value)
    }

    /// Reads the configuration once and logs unknown members. `patience` limits the requests to a
    /// control plane, and `observer` is called for each try. A file must be read within the time of
    /// one try: a file on a lost network mount, or a pipe without a writer, may never answer.
    pub async fn load(
        &self,
        patience: Patience,
        observer: Observer<'_>,
    ) -> Result<ConfigDocument, SourceError> {
        let (path, parsed) = match self {
            Self::ConfigFile(path) => (path, read_within(path, read_config, patience.request)),
            Self::SpecFile(path) => (path, read_within(path, read_spec, patience.request)),
            Self::ControlPlane(control_plane) => {
                return Ok(control_plane::fetch(control_plane, patience, observer).await?);
            }
        };
        let parsed = parsed.await?;
        document::log_unknown_members(&path.display().to_string(), &parsed.unknown_members);
        Ok(parsed.value)
    }

    /// The document of a file as [`Self::load`] would read it now; `None` for a control plane.
    pub(crate) async fn look(
        &self,
        limit: Duration,
    ) -> Result<Option<ConfigDocument>, SourceError> {
        let parsed = match self {
            Self::ConfigFile(path) => read_within(path, read_config, limit).await?,
            Self::SpecFile(path) => read_within(path, read_spec, limit).await?,
            Self::ControlPlane(_) => return Ok(None),
        };
        Ok(Some(parsed.value))
    }
}

/// Reads a file beside the runtime. A reader that is not in time keeps its thread.
async fn read_within(
    path: &Path,
    read: fn(&Path) -> Result<Parsed<ConfigDocument>, SourceError>,
    limit: Duration,
) -> Result<Parsed<ConfigDocument>, SourceError> {
    let failed = |error| SourceError::Read { path: path.to_owned(), error };
    let silent = || failed(io::Error::new(io::ErrorKind::TimedOut, Silent(limit)));
    let alone = Reading::begin(path).ok_or_else(silent)?;
    let reading = tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || {
            let parsed = read(&path);
            drop(alone);
            parsed
        }
    });
    tokio::time::timeout(limit, reading)
        .await
        .map_err(|_| silent())?
        .map_err(|panicked| failed(panicked.into()))?
}

/// Reads a `--config` document.
pub(crate) fn read_config(path: &Path) -> Result<Parsed<ConfigDocument>, SourceError> {
    read(path)
}

/// Reads a bare spec; the configuration around it is the default.
pub(crate) fn read_spec(path: &Path) -> Result<Parsed<ConfigDocument>, SourceError> {
    let Parsed { value: BareSpec(spec), unknown_members } = read(path)?;
    let compute_ctl_config = ComputeCtlConfig::default();
    Ok(Parsed { value: ConfigDocument { spec: Some(spec), compute_ctl_config }, unknown_members })
}

/// Reads the file whole, then parses it (02 W12). Blocks.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Parsed<T>, SourceError> {
    let text = std::fs::read(path).map_err(|error| unreadable(path, error))?;
    if text.trim_ascii().is_empty() {
        return Err(SourceError::Empty(path.to_owned()));
    }
    document::parse(&text).map_err(|error| SourceError::Parse { path: path.to_owned(), error })
}

fn unreadable(path: &Path, error: io::Error) -> SourceError {
    let path = path.to_owned();
    if error.kind() != io::ErrorKind::PermissionDenied {
        return SourceError::Read { path, error };
    }
    let me = Uid::effective();
    let user = match User::from_uid(me) {
        Ok(Some(user)) => user.name,
        _ => me.to_string(),
    };
    SourceError::Denied { owner: denied::owner(&path), path, user }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn load(source: ConfigSource) -> Result<ConfigDocument, String> {
        let patience = crate::spec::control_plane::ControlPlaneLimits::default().start;
        source.load(patience, &|_| ()).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn both_file_forms_are_read() {
        let spec = r#"{"format_version":1,"suspend_timeout_seconds":0,"cluster":{"roles":[],"databases":[]}}"#;
        let dir = tempfile::tempdir().unwrap();
        let bare = dir.path().join("spec.json");
        std::fs::write(&bare, spec).unwrap();
        let document = load(ConfigSource::SpecFile(bare.clone())).await.unwrap();
        assert!(document.spec.is_some());
        assert!(document.compute_ctl_config.jwks.keys.is_empty());

        let error = load(ConfigSource::ConfigFile(bare)).await.unwrap_err();
        assert!(error.contains("missing field `compute_ctl_config`"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_never_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let patience = Patience {
            request: Duration::from_millis(50),
            ..crate::spec::control_plane::ControlPlaneLimits::default().start
        };
        let source = ConfigSource::ConfigFile(path.clone());
        let error = source.load(patience, &|_| ()).await.unwrap_err().to_string();
        assert!(error.contains("config.json: it gave no content within 50ms"), "{error}");
        // The reader's thread would keep the runtime alive.
        std::fs::write(&path, "").unwrap();
    }

    /// As at a start as root from a pipe, which gives its content only once.
    #[tokio::test]
    async fn what_was_read_ahead_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let source = ConfigSource::ConfigFile(path.clone());
        let limit = Duration::from_millis(50);
        let error = source.read_file(limit).unwrap_err().to_string();
        assert!(error.contains("config.json: it gave no content within 50ms"), "{error}");
        std::fs::write(&path, "").unwrap();

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, r#"{"compute_ctl_config":{"jwks":{"keys":[]}}}"#).unwrap();
        let read = source.read_file(Duration::from_secs(60)).unwrap();
        std::fs::write(&path, "").unwrap();
        let patience = crate::spec::control_plane::ControlPlaneLimits::default().start;
        let document = source.load_unless_read(read, patience, &|_| ()).await.unwrap();
        assert!(document.spec.is_none());
        let error = load(source).await.unwrap_err();
        assert!(error.contains("the file is empty (line 1 column 0): a pipe gives"), "{error}");
    }

    #[tokio::test]
    async fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let error = load(ConfigSource::ConfigFile(path.clone())).await.unwrap_err();
        assert!(error.contains(&path.display().to_string()), "{error}");
        std::fs::write(&path, "{").unwrap();
        let error = load(ConfigSource::ConfigFile(path.clone())).await.unwrap_err();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains("line 1"), "{error}");
    }
}
