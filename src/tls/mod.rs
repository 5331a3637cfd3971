//! Server certificates: of Postgres (04 §7), and of the external HTTP server ([`https`]).
//!
//! ```text
//!  key_path, cert_path ──events, poll──► watch ──verified pair──► driver ──install──► PGDATA
//!                                                                        └─reload──► Postgres
//! ```
//!
//! After a reload, [`served`] connects as a client to check that Postgres has taken the new pair;
//! if not, the previous pair is restored.
//!
//! The driver owns a [`TlsState`]; no other code writes `server.key` and `server.crt`. Invariant:
//! the files are read, compared and installed as one value, the [`pair::TlsPair`], and Postgres is
//! reloaded only when the content has changed.

mod follow;
mod https;
pub(crate) mod install;
pub(crate) mod pair;
mod places;
pub(crate) mod served;
pub(crate) mod watch;

#[cfg(test)]
mod testing;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

pub(crate) use https::{Https, HttpsFiles, Renewal};
pub(crate) use install::Installed;
use install::Installer;
pub(crate) use pair::{PairDigest, PairError, TlsPair};
use served::Served;
pub(crate) use watch::{NoPair, PairWatch, WatchLimits};

use crate::errors::one_line;
use crate::os::replace_file::FileError;
use crate::spec::ComputeSpec;
use crate::spec::wire::{Feature, TlsConfig};
use crate::telemetry::metrics::Metrics;

/// Whether TLS is active: the agent's configuration names the files and the spec has the feature
/// (04 §7.1). Applies to Postgres, pgbouncer and local_proxy.
pub(crate) fn is_active(config: Option<&TlsConfig>, spec: &ComputeSpec) -> bool {
    active_config(config, spec).is_some()
}

/// The configured files, if TLS is active.
pub(crate) fn active_config<'a>(
    config: Option<&'a TlsConfig>,
    spec: &ComputeSpec,
) -> Option<&'a TlsConfig> {
    config.filter(|_| spec.has_feature(Feature::TlsExperimental))
}

/// The pair in PGDATA before an installation, if any.
#[derive(Debug)]
struct Before(Option<Arc<TlsPair>>);

/// The outcome of [`TlsState::confirm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "Postgres has to be reloaded after a change"]
pub(crate) enum Confirmed {
    /// PGDATA was not changed.
    AsItIs,
    /// The previous pair was restored; Postgres must be reloaded.
    PutBack,
}

/// The driver's TLS state: the watch, and the pair in PGDATA.
#[derive(Debug)]
pub(crate) struct TlsState {
    config: Option<TlsConfig>,
    limits: WatchLimits,
    metrics: Metrics,
    installer: Installer,
    /// The previous pair, until Postgres is known to have taken the new one.
    before: Option<Before>,
    /// The pair that Postgres did not take, and when it is tried again, unless a reconfiguration is
    /// first.
    refused: Option<(PairDigest, Instant)>,
    /// Present while TLS is active.
    watch: Option<PairWatch>,
    /// Earliest time of another installation after one that failed.
    not_before: Option<Instant>,
}

impl TlsState {
    /// `config` is the one of the process start (04 §7.1).
    pub(crate) fn new(config: Option<TlsConfig>, limits: WatchLimits, metrics: Metrics) -> Self {
        let installer = Installer::default();
        let (before, refused) = (None, None);
        Self { config, limits, metrics, installer, before, refused, watch: None, not_before: None }
    }

    /// Starts to follow the files if a spec makes TLS active, and stops if not (04 W5). Needs a
    /// runtime.
    pub(crate) fn follow(&mut self, spec: &ComputeSpec) {
        match (active_config(self.config.as_ref(), spec), &self.watch) {
            (Some(config), None) => {
                self.watch = Some(PairWatch::start(config.clone(), self.limits));
            }
            (None, Some(_)) => {
                self.watch = None;
                self.metrics.set_certificate_expiry(None);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// For a start: waits for a usable pair; `None` if TLS is not active.
    ///
    /// # Errors
    /// No usable pair appeared in time.
    pub(crate) async fn wait_for_pair(&mut self) -> Result<Option<Arc<TlsPair>>, NoPair> {
        match &mut self.watch {
            Some(watch) => watch.wait_for_pair().await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits for a pair other than the one in PGDATA; never returns if TLS is not active.
    /// Cancel-safe.
    pub(crate) async fn changed(&mut self) -> Arc<TlsPair> {
        if let Some(moment) = self.not_before {
            tokio::time::sleep_until(moment).await;
            self.not_before = None;
        }
        let (Some(watch), Some(config)) = (&mut self.watch, &self.config) else {
            return std::future::pending().await;
        };
        loop {
            let (refused, again) = self.refused.unzip();
            let known: Vec<_> = self.installer.digest().into_iter().chain(refused).collect();
            let pair = tokio::select! {
                pair = watch.changed(&known) => pair,
                () = sleep_until(again) => {
                    self.refused = None;
                    continue;
                }
            };
            // A reconfiguration may have installed a newer pair than the watch has seen.
            match load(config).await {
                Some(Ok(now)) if now.digest() != pair.digest() => watch.read_anew(now),
                _ => return pair,
            }
        }
    }

    /// As [`Self::install`], while Postgres runs. Call [`Self::confirm`] after the reload.
    ///
    /// # Errors
    /// See [`FileError`].
    pub(crate) fn replace(
        &mut self,
        pgdata: &Path,
        pair: &Arc<TlsPair>,
    ) -> Result<Installed, FileError> {
        let before = self.installer.installed().cloned();
        let installed = self.install(pgdata, pair)?;
        if installed == Installed::Changed {
            // If several were not confirmed, Postgres may still use the first one.
            self.before.get_or_insert(Before(before));
            self.refused = None;
        }
        Ok(installed)
    }

    /// Puts a pair into PGDATA. After a failure the previous content is unchanged, and
    /// [`Self::changed`] offers the pair again after a pause.
    ///
    /// # Errors
    /// See [`FileError`].
    pub(crate) fn install(
        &mut self,
        pgdata: &Path,
        pair: &Arc<TlsPair>,
    ) -> Result<Installed, FileError> {
        let installed = self.installer.install(pgdata, pair);
        match &installed {
            Ok(Installed::Changed) => self.announce(pair),
            Ok(Installed::Unchanged) => {}
            Err(_) => self.not_before = Some(Instant::now() + self.limits.poll),
        }
        installed
    }

    /// For a reconfiguration: puts the current pair of the files into PGDATA, if it is usable. If
    /// not, PGDATA is unchanged, and the watch keeps trying (04 W2).
    pub(crate) async fn install_present(&mut self, pgdata: &Path) {
        let (Some(watch), Some(config)) = (&self.watch, &self.config) else { return };
        let pair = match load(config).await {
            // A pair that cannot be verified must be one that the watch has read twice.
            Some(Ok(pair)) if pair.doubt().is_some() => watch.latest(),
            Some(Ok(pair)) => Some(Arc::new(pair)),
            // The watch logs the error.
            Some(Err(_)) => None,
            None => return,
        };
        let Some(pair) = pair else {
            tracing::warn!("the TLS certificate stays as it is until there is a usable pair");
            return;
        };
        if let Err(error) = self.replace(pgdata, &pair) {
            tracing::error!("could not install the TLS certificate: {}", one_line(&error));
        }
    }

    /// After a reload: checks whether Postgres serves the installed pair. If it still serves the
    /// previous one, it could not use the new pair; then the previous pair is restored, and the
    /// caller must reload again. A pair installed at a start needs no check: Postgres would not run
    /// without it.
    pub(crate) async fn confirm(&mut self, pgdata: &Path, server: SocketAddr) -> Confirmed {
        let (Some(Before(before)), Some(pair)) = (self.before.take(), self.installer.installed())
        else {
            return Confirmed::AsItIs;
        };
        let pair = Arc::clone(pair);
        let goes_on_with = before.as_ref().map(|before| before.leaf());
        match served::wait_for(server, pair.leaf(), self.limits.served).await {
            Served::Wanted => return Confirmed::AsItIs,
            Served::Other(shown) if shown.as_deref() == goes_on_with => {}
            Served::Other(_) => {
                // A setting that outranks ours causes this.
                tracing::warn!("Postgres shows a TLS certificate that compute_ctl did not install");
                return Confirmed::AsItIs;
            }
            Served::Unknown(error) => {
                tracing::warn!("could not see whether Postgres has the new certificate: {error}");
                return Confirmed::AsItIs;
            }
        }
        tracing::error!(
            "Postgres could not use the TLS certificate {}, its log says why; it goes on {}",
            pair.digest(),
            if before.is_some() { "with the one before" } else { "without TLS" }
        );
        let put_back = match &before {
            Some(before) => self.install(pgdata, before),
            None => Ok(Installed::Unchanged),
        };
        self.refused = Some((pair.digest(), Instant::now() + self.limits.again));
        match put_back {
            Ok(Installed::Changed) => Confirmed::PutBack,
            Ok(Installed::Unchanged) => Confirmed::AsItIs,
            Err(error) => {
                tracing::error!("could not put the old certificate back: {}", one_line(&error));
                Confirmed::AsItIs
            }
        }
    }

    fn announce(&self, pair: &TlsPair) {
        let digest = pair.digest();
        let until = pair.not_after().map(|end| end.to_rfc3339());
        let until = until.as_deref().unwrap_or("an unknown time");
        tracing::info!("installed the TLS certificate {digest}, valid until {until}");
        if pair.not_after().is_some_and(|end| end < chrono::Utc::now()) {
            tracing::warn!("the TLS certificate has expired");
        }
        if let Some(doubt) = pair.doubt() {
            tracing::warn!(
                "could not verify that the TLS key belongs to its certificate, installed them \
                 anyway: {doubt}"
            );
        }
        self.metrics.set_certificate_expiry(pair.not_after());
    }
}

/// Reads the files on a blocking thread. `None`: the runtime is shutting down.
async fn load(config: &TlsConfig) -> Option<Result<TlsPair, PairError>> {
    let config = config.clone();
    tokio::task::spawn_blocking(move || TlsPair::load(&config)).await.ok()
}

/// Sleeps until the time; forever if it is `None`.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
