//! Sources of the configuration (01 §5.2).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use nix::unistd::{Uid, User};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::bare::BareSpec;
use super::control_plane::{self, ControlPlane, ControlPlaneError, Observer, Patience};
use super::document::{self, DocumentError, Parsed};
use super::wire::{ComputeCtlConfig, ConfigDocument, Jwks};
use crate::os::{denied, named_file};

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
    /// A refresh found a pipe, a device or a folder.
    #[error(
        "could not read {}: it is not a regular file: a pipe gives its content only once, a refresh needs a file",
        .0.display()
    )]
    NotAFile(PathBuf),
    /// The file is empty.
    #[error("could not parse {}: the file is empty (line 1 column 0)", .0.display())]
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

/// Readers at a time. Usually there is one; more only if earlier ones hang, as on a lost network
/// mount. A reader that hangs keeps its thread, so their number is limited.
const READERS: usize = 16;

static READING: Semaphore = Semaphore::const_new(READERS);

#[derive(Debug, Error)]
#[error(
    "all {READERS} readers still wait for its content: bring its file system back, or restart \
     compute_ctl"
)]
struct AllWait;

type Read = Result<Parsed<ConfigDocument>, SourceError>;
type Reader = fn(&Path) -> Read;

impl ConfigSource {
    /// The file and its reader, or else the control plane.
    fn file(&self) -> Result<(&Path, Reader), &ControlPlane> {
        match self {
            Self::ConfigFile(path) => Ok((path, read_config)),
            Self::SpecFile(path) => Ok((path, read_spec)),
            Self::ControlPlane(control_plane) => Err(control_plane),
        }
    }

    /// Reads the configuration if it is in a file, within `limit`, before the runtime exists. The
    /// reading thread outlives the call only after a timeout.
    pub fn read_file(
        &self,
        limit: Duration,
    ) -> Result<Option<Parsed<ConfigDocument>>, SourceError> {
        let Ok((path, read)) = self.file() else { return Ok(None) };
        within(path, limit, read).map(Some)
    }

    /// The configuration for a start: the document that was read before the runtime existed, or
    /// else it is read now, also from a pipe.
    pub async fn load_unless_read(
        &self,
        read: Option<Parsed<ConfigDocument>>,
        patience: Patience,
        observer: Observer<'_>,
    ) -> Result<ConfigDocument, SourceError> {
        let Ok((path, reader)) = self.file() else {
            return self.load(patience, observer).await;
        };
        let parsed = match read {
            Some(parsed) => parsed,
            None => read_within(&READING, path, reader, patience.file).await?,
        };
        Ok(logged(path, parsed))
    }

    /// Reads the configuration again and logs unknown members. `patience` limits the requests to a
    /// control plane, and `observer` is called for each try. A file must be a regular one, and be
    /// read within the time of one try: on a lost network mount it may never answer.
    pub async fn load(
        &self,
        patience: Patience,
        observer: Observer<'_>,
    ) -> Result<ConfigDocument, SourceError> {
        match self.file() {
            Ok((path, read)) => Ok(logged(path, read_again(path, read, patience.file).await?)),
            Err(control_plane) => {
                Ok(control_plane::fetch(control_plane, patience, observer).await?)
            }
        }
    }

    /// The document of a file as [`Self::load`] would read it now; `None` for a control plane.
    pub(crate) async fn look(
        &self,
        limit: Duration,
    ) -> Result<Option<ConfigDocument>, SourceError> {
        let Ok((path, read)) = self.file() else { return Ok(None) };
        Ok(Some(read_again(path, read, limit).await?.value))
    }
}

/// Reads a file on a thread of its own, which outlives the call only after a timeout: a pipe may have
/// no writer, and a network mount may be lost.
fn within<T: Send + 'static>(
    path: &Path,
    limit: Duration,
    read: impl FnOnce(&Path) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let failed = |error| SourceError::Read { path: path.to_owned(), error };
    let (done, result) = mpsc::sync_channel(1);
    let reader = std::thread::Builder::new().name("configuration".to_owned()).spawn({
        let path = path.to_owned();
        move || drop(done.send(read(&path)))
    });
    let reader = reader.map_err(failed)?;
    let result = result
        .recv_timeout(limit)
        .map_err(|_| failed(io::Error::new(io::ErrorKind::TimedOut, Silent(limit))))?;
    // The thread has finished its work.
    let _ = reader.join();
    result
}

/// Reads a `--config` document within `limit`.
pub(crate) fn config_within(path: &Path, limit: Duration) -> Read {
    within(path, limit, read_config)
}

/// Reads a bare spec within `limit`.
pub(crate) fn spec_within(path: &Path, limit: Duration) -> Read {
    within(path, limit, read_spec)
}

/// Reads a set of keys, as in `compute_ctl_config.jwks`, within `limit`.
pub(crate) fn keys_within(path: &Path, limit: Duration) -> Result<Parsed<Jwks>, SourceError> {
    within(path, limit, read)
}

/// Reads a file if it is a regular one; a pipe would give nothing, or wait for a writer.
async fn read_again(path: &Path, read: Reader, limit: Duration) -> Read {
    let read = move |path: &Path| match path.metadata() {
        Ok(meta) if meta.is_file() => read(path),
        Ok(_) => Err(SourceError::NotAFile(path.to_owned())),
        Err(error) => Err(unreadable(path, error)),
    };
    read_within(&READING, path, read, limit).await
}

fn logged(path: &Path, parsed: Parsed<ConfigDocument>) -> ConfigDocument {
    document::log_unknown_members(&path.display().to_string(), &parsed.unknown_members);
    parsed.value
}

/// Reads a file beside the runtime. A reader that is not in time is given up: it keeps its thread
/// and its place among the `readers` until it ends, and later calls read afresh.
async fn read_within(
    readers: &'static Semaphore,
    path: &Path,
    read: impl FnOnce(&Path) -> Read + Send + 'static,
    limit: Duration,
) -> Read {
    let failed = |error| SourceError::Read { path: path.to_owned(), error };
    let place = readers.try_acquire().map_err(|_| failed(io::Error::other(AllWait)))?;
    let reading = tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || {
            let _place = place;
            read(&path)
        }
    });
    tokio::time::timeout(limit, reading)
        .await
        .map_err(|_| failed(io::Error::new(io::ErrorKind::TimedOut, Silent(limit))))?
        .map_err(|panicked| failed(panicked.into()))?
}

/// Reads a `--config` document.
fn read_config(path: &Path) -> Result<Parsed<ConfigDocument>, SourceError> {
    read(path)
}

/// Reads a bare spec; the configuration around it is the default.
fn read_spec(path: &Path) -> Result<Parsed<ConfigDocument>, SourceError> {
    let Parsed { value: BareSpec(spec), unknown_members } = read(path)?;
    let compute_ctl_config = ComputeCtlConfig::default();
    Ok(Parsed { value: ConfigDocument { spec: Some(spec), compute_ctl_config }, unknown_members })
}

/// Reads the file whole, then parses it (02 W12). Blocks.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Parsed<T>, SourceError> {
    let text =
        named_file::read(path, named_file::DOCUMENT).map_err(|error| unreadable(path, error))?;
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
        source
            .load(patience(Duration::from_secs(60)), &|_| ())
            .await
            .map_err(|error| error.to_string())
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

    fn patience(file: Duration) -> Patience {
        Patience { file, ..crate::spec::control_plane::ControlPlaneLimits::default().start }
    }

    /// At a start, and then at a refresh, which finds the good file in the pipe's place.
    #[tokio::test]
    async fn a_pipe_without_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let source = ConfigSource::ConfigFile(path.clone());
        let limit = patience(Duration::from_millis(50));
        let error = source.load_unless_read(None, limit, &|_| ()).await.unwrap_err().to_string();
        assert!(error.contains("config.json: it gave no content within 50ms"), "{error}");

        // Whether it has a writer does not matter, nor whether an earlier reader still waits.
        let refused = "config.json: it is not a regular file: a pipe gives its content only once";
        let limit = Duration::from_secs(60);
        let error = load(source.clone()).await.unwrap_err();
        assert!(error.contains(refused), "{error}");
        let error = source.look(limit).await.unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");

        let good = dir.path().join("good.json");
        std::fs::write(&good, r#"{"compute_ctl_config":{"jwks":{"keys":[]}}}"#).unwrap();
        let pipe = dir.path().join("pipe");
        std::fs::rename(&path, &pipe).unwrap();
        std::fs::rename(&good, &path).unwrap();
        assert!(source.look(limit).await.unwrap().unwrap().spec.is_none());
        assert!(load(source).await.unwrap().spec.is_none());
        // The first reader's thread would keep the runtime alive.
        std::fs::write(&pipe, "").unwrap();
    }

    #[tokio::test]
    async fn readers_that_hang_hold_up_no_other_until_there_are_too_many() {
        static PLACES: Semaphore = Semaphore::const_new(2);
        let path = Path::new("/mount/config.json");
        let soon = Duration::from_millis(20);
        let empty = |path: &Path| Err(SourceError::Empty(path.to_owned()));
        let mut held = Vec::new();
        for _ in 0..2 {
            let error = read_within(&PLACES, path, empty, Duration::from_secs(60)).await;
            assert!(matches!(error, Err(SourceError::Empty(_))), "{error:?}");
            let (end, ended) = mpsc::channel::<()>();
            held.push(end);
            let hang = move |path: &Path| {
                let _ = ended.recv();
                empty(path)
            };
            let error = read_within(&PLACES, path, hang, soon).await.unwrap_err().to_string();
            assert!(
                error.contains("/mount/config.json: it gave no content within 20ms"),
                "{error}"
            );
        }
        let error = read_within(&PLACES, path, empty, soon).await.unwrap_err().to_string();
        assert!(error.contains("/mount/config.json: all 16 readers still wait"), "{error}");
        // They end when the mount is back.
        drop(held);
        let _both = PLACES.acquire_many(2).await.unwrap();
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
        let patience = patience(Duration::from_secs(60));
        let document = source.load_unless_read(read, patience, &|_| ()).await.unwrap();
        assert!(document.spec.is_none());
        let error = load(source).await.unwrap_err();
        assert!(error.ends_with("config.json: the file is empty (line 1 column 0)"), "{error}");
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
