//! Extensions that are fetched on demand (07 §3, 02 §10).
//!
//! ```text
//! start ───────► control files, preloaded libraries ─┐
//! Postgres ────► POST /extension_server/… ───────────┼─► index ─► one flight per archive
//! reconfigure ─► control files                       ┘              └► download ─► archive ─► stage
//! ```
//!
//! Invariants: an archive is fetched once per process, and by one task at a time, which goes on if
//! its caller leaves; all waiting callers get its result, and after a failure the next caller tries
//! again (03 W10). The end of the compute ends a download and removes the unpacked files.

pub(crate) mod archive;
pub(crate) mod control;
pub(crate) mod download;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod index;
pub(crate) mod preload;
pub(crate) mod stage;

mod remains;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use url::Url;

use crate::background::Background;
use crate::postgres::install::PgInstall;
use crate::spec::ComputeSpec;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces;
use download::Downloader;
pub(crate) use download::{DownloadError, DownloadLimits};

/// A download in progress, or a successful one.
type Flight = Shared<BoxFuture<'static, Result<u64, Arc<DownloadError>>>>;
type Flights = Arc<Mutex<HashMap<String, Flight>>>;

/// The extensions that can be fetched for one installation of Postgres.
#[derive(Debug)]
pub struct ExtensionStore {
    /// None without `--remote-ext-base-url`.
    downloader: Option<Arc<Downloader>>,
    /// The folder of control files.
    folder: Option<PathBuf>,
    flights: Flights,
    /// Whether the remains in Postgres' folders were removed.
    swept: AtomicBool,
}

impl ExtensionStore {
    /// Touches nothing. Downloads end with the compute.
    pub fn new(
        gateway: Option<Url>,
        install: &PgInstall,
        limits: DownloadLimits,
        metrics: &Metrics,
        background: &Background,
    ) -> Self {
        let folder = install.sharedir.as_ref().map(|dir| dir.join("extension"));
        let downloader = gateway.map(|gateway| {
            Arc::new(Downloader {
                gateway,
                version: install.version,
                libraries: install.pkglibdir.clone(),
                extensions: folder.clone(),
                limits,
                metrics: metrics.clone(),
                background: background.clone(),
            })
        });
        Self { downloader, folder, flights: Flights::default(), swept: AtomicBool::new(false) }
    }

    /// Whether there is a gateway.
    pub const fn is_enabled(&self) -> bool {
        self.downloader.is_some()
    }

    /// Fetches and installs an extension (by its resolved name), unless that was done already.
    /// Returns the bytes of the archive, 0 if another call fetched it.
    ///
    /// # Errors
    /// The error of the download, for all waiting callers.
    pub async fn fetch(&self, extension: &str) -> Result<u64, Arc<DownloadError>> {
        let Some(downloader) = &self.downloader else {
            return Err(Arc::new(DownloadError::NoGateway));
        };
        let (flight, joined) = {
            let mut flights = self.flights.lock();
            match flights.get(extension) {
                Some(flight) => (flight.clone(), true),
                None => {
                    let flight = begin(downloader, &self.flights, extension);
                    flights.insert(extension.to_owned(), flight.clone());
                    (flight, false)
                }
            }
        };
        flight.await.map(|size| if joined { 0 } else { size })
    }

    /// Writes the control files of a spec. Errors are logged. The first call in a process, which is
    /// before the first download, removes what killed processes have left in Postgres' folders.
    pub async fn write_control_files(&self, spec: &ComputeSpec) {
        let Some(index) = &spec.remote_extensions else { return };
        let Some(folder) = self.folder.clone() else {
            return tracing::error!(
                "no control files are written: {}",
                DownloadError::NoFolder("extensions")
            );
        };
        let index = index.clone();
        let libraries = self.downloader.as_ref().and_then(|it| it.libraries.clone());
        let sweep = !self.swept.swap(true, Ordering::Relaxed);
        let write = move || {
            if sweep {
                remains::remove_remains(&folder);
                libraries.iter().for_each(|libraries| remains::remove_remains(libraries));
            }
            control::write_control_files(&folder, &index);
        };
        if tokio::task::spawn_blocking(write).await.is_err() {
            tracing::error!("writing the control files was interrupted");
        }
    }
}

/// Starts a download in a task of its own, so that the caller may leave. The caller holds the lock
/// of `flights`.
fn begin(downloader: &Arc<Downloader>, flights: &Flights, extension: &str) -> Flight {
    let (downloader, extension) = (Arc::clone(downloader), extension.to_owned());
    let mut failed = Forget { flights: Arc::clone(flights), extension: Some(extension.clone()) };
    let (tell, told) = oneshot::channel();
    let background = downloader.background.clone();
    background.spawn(traces::here().scope(async move {
        let result = downloader.install(&extension).await;
        match &result {
            Ok(size) => {
                failed.extension = None;
                tracing::info!("installed extension {extension:?}, {size} bytes");
            }
            Err(error) => tracing::error!("could not install extension {extension:?}: {error}"),
        }
        drop(failed);
        let _ = tell.send(result.map_err(Arc::new));
    }));
    let result = told.map(|told| told.unwrap_or_else(|_| Err(DownloadError::Interrupted.into())));
    result.boxed().shared()
}

/// Removes a flight before its failure is published, so that a caller can try again at once.
struct Forget {
    flights: Flights,
    extension: Option<String>,
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(extension) = &self.extension {
            self.flights.lock().remove(extension);
        }
    }
}

#[cfg(test)]
mod tests;
