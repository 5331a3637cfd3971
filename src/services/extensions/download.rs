//! Fetches one archive from the gateway and installs it (07 §3.3).
//!
//! ```text
//! gateway ──chunks──► pipe ──► blocking thread: zstd, tar ─► stage ─► rename
//! ```
//!
//! The body is unpacked while it arrives; memory holds neither the whole body nor a whole file.
//! Nothing reaches Postgres' folders before the last byte is checked.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::SyncIoBridge;
use url::Url;

use super::archive;
use super::error::ArchiveError;
use super::index;
use super::stage::{InstallError, Stage};
use crate::background::Background;
use crate::duration::varied;
use crate::http_client::{self, RedirectRefused, Redirects};
use crate::postgres::install::PgVersion;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::shown::shown;
use crate::telemetry::traces;

/// The path of an archive, for traces.
const PATH: &str = "/{build_tag}/{arch}/{version}/extensions/{extension}.tar.zst";

/// Bytes of the body that may wait to be unpacked.
const PIPE: usize = 64 << 10;

/// Limits of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadLimits {
    /// One connection.
    pub connect: Duration,
    /// Silence of the gateway. Shorter than the 60 s that Postgres waits for its request.
    pub idle: Duration,
    /// One try as a whole.
    pub total: Duration,
    /// All preloaded libraries, all tries together. After that Postgres starts without the missing
    /// ones; it requests each itself, and waits for another 60 s.
    pub preload: Duration,
    /// Tries if the failure is temporary.
    pub tries: u32,
    /// Pause before the second try; doubles each time, and varies by half.
    pub pause: Duration,
    /// Bytes of an archive.
    pub compressed_bytes: u64,
    /// Bytes of the unpacked archive.
    pub unpacked_bytes: u64,
}

impl Default for DownloadLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            total: Duration::from_secs(600),
            preload: Duration::from_secs(300),
            tries: 3,
            pause: Duration::from_millis(100),
            compressed_bytes: 1 << 30,
            unpacked_bytes: 4 << 30,
        }
    }
}

/// Why an extension could not be installed.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// No `--remote-ext-base-url`.
    #[error("remote storage is not configured")]
    NoGateway,
    /// The folder of the installation is not known.
    #[error(
        "it is not known where this Postgres keeps its {0}: pg_config beside --pgbin must tell"
    )]
    NoFolder(&'static str),
    /// No answer, or one that ended early.
    #[error("could not perform remote extensions server request: {text}")]
    Transport {
        /// Server and cause.
        text: String,
        /// Whether a limit ended the try; another try would take too long.
        timed_out: bool,
    },
    /// The gateway redirects to another origin.
    #[error(transparent)]
    Redirect(RedirectRefused),
    /// 503.
    #[error("remote extensions server is temporarily unavailable")]
    Unavailable,
    /// Any other answer than 200.
    #[error("unexpected remote extensions server response status code: {0}")]
    Status(StatusCode),
    /// Refused.
    #[error("the archive has more than {0} bytes")]
    TooLarge(u64),
    /// The body is not an archive, or is refused.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The folders of Postgres cannot be written.
    #[error(transparent)]
    Install(InstallError),
    /// The task ended without a result.
    #[error("the download was interrupted")]
    Interrupted,
}

impl DownloadError {
    /// Whether another try may succeed soon.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable => true,
            Self::Status(status) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Transport { timed_out, .. } => !timed_out,
            Self::Archive(error) => error.is_transient(),
            Self::NoGateway
            | Self::NoFolder(_)
            | Self::Redirect(_)
            | Self::TooLarge(_)
            | Self::Install(_)
            | Self::Interrupted => false,
        }
    }
}

impl From<reqwest::Error> for DownloadError {
    fn from(error: reqwest::Error) -> Self {
        if let Some(refused) = http_client::refused_redirect(&error) {
            return Self::Redirect(refused.clone());
        }
        Self::Transport { timed_out: error.is_timeout(), text: http_client::failure(&error) }
    }
}

/// Fetches from one gateway for one installation of Postgres.
#[derive(Debug)]
pub(crate) struct Downloader {
    /// `--remote-ext-base-url`.
    pub gateway: Url,
    /// Major version of the installation.
    pub version: PgVersion,
    /// Folder of libraries of the installation.
    pub libraries: Option<PathBuf>,
    /// Folder of control files of the installation.
    pub extensions: Option<PathBuf>,
    /// Limits of a download.
    pub limits: DownloadLimits,
    /// Counts each try.
    pub metrics: Metrics,
    /// The background work that downloads belong to.
    pub background: Background,
}

impl Downloader {
    /// Fetches and installs an extension; tries again after temporary failures. Returns the size of
    /// the archive in bytes.
    ///
    /// # Errors
    /// The error of the last try.
    pub(crate) async fn install(&self, extension: &str) -> Result<u64, DownloadError> {
        let span = traces::span("download_extension");
        span.set("extension", shown(extension));
        let installed = span.scope(self.install_inside(extension)).await;
        match &installed {
            Ok(bytes) => span.number("bytes", *bytes),
            Err(error) => span.fail(error),
        }
        installed
    }

    async fn install_inside(&self, extension: &str) -> Result<u64, DownloadError> {
        let limits = &self.limits;
        let client = http_client::builder(Redirects::SameOrigin)
            .connect_timeout(limits.connect)
            .read_timeout(limits.idle)
            .timeout(limits.total)
            .build()?;
        let mut pause = limits.pause;
        let mut tries_left = limits.tries;
        loop {
            tries_left = tries_left.saturating_sub(1);
            match self.try_install(&client, extension).await {
                Err(error) if error.is_transient() && tries_left > 0 => {
                    tracing::warn!("download of extension {extension:?}, will retry: {error}");
                    tokio::time::sleep(varied(pause)).await;
                    pause = pause.saturating_mul(2);
                }
                result => return result,
            }
        }
    }

    async fn try_install(&self, client: &Client, extension: &str) -> Result<u64, DownloadError> {
        let libraries = self.libraries.clone().ok_or(DownloadError::NoFolder("libraries"))?;
        let extensions = self.extensions.clone().ok_or(DownloadError::NoFolder("extensions"))?;
        let url = index::archive_url(&self.gateway, self.version, extension);
        let response = traces::send(client.get(url), PATH).await;
        let status = response.as_ref().map(Response::status).ok();
        self.metrics.count_remote_ext_request(&index::file_name(extension), status);
        let response = response?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE => return Err(DownloadError::Unavailable),
            status => return Err(DownloadError::Status(status)),
        }

        let (source, body) = tokio::io::duplex(PIPE);
        let limit = self.limits.unpacked_bytes;
        // When this task is dropped, the thread goes on until it misses the next chunk.
        let held = self.background.hold();
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut stage = Stage::new(&libraries, &extensions);
            archive::unpack(SyncIoBridge::new(source), &mut stage, limit).map(|()| (stage, held))
        });
        let received = self.receive(response, body).await;
        let unpacked = unpacked.await.map_err(|_| DownloadError::Interrupted)?;
        // A body that ended early also breaks the archive; the error of the body says why.
        let size = received?;
        let (stage, held) = unpacked.map_err(DownloadError::Archive)?;
        let install = move || {
            let installed = stage.install();
            drop(held);
            installed
        };
        let installed = tokio::task::spawn_blocking(install).await;
        installed.map_err(|_| DownloadError::Interrupted)?.map_err(DownloadError::Install)?;
        Ok(size)
    }

    /// Hands the body over piece by piece and counts its bytes. The length in the header serves
    /// only to refuse a large body at once.
    async fn receive(
        &self,
        mut response: Response,
        mut unpacking: impl AsyncWrite + Unpin,
    ) -> Result<u64, DownloadError> {
        let limit = self.limits.compressed_bytes;
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(DownloadError::TooLarge(limit));
        }
        let mut size = 0_u64;
        while let Some(chunk) = response.chunk().await? {
            size = size.saturating_add(chunk.len() as u64);
            if size > limit {
                return Err(DownloadError::TooLarge(limit));
            }
            // The unpacking has failed already, and its own result says why.
            if unpacking.write_all(&chunk).await.is_err() {
                break;
            }
        }
        Ok(size)
    }
}
