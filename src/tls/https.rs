//! The certificate of the external HTTP server, and the authorities of its clients.
//!
//! ```text
//!  key, certificate, authorities ──events, poll──► Https ──configuration──► server: new connections
//! ```
//!
//! The files are read by the user that the process runs as, at the start and at each renewal, so a
//! file that only root can read ends the start and not the first renewal.
//!
//! Invariant: files that cannot be used together change nothing; connections that exist keep the
//! certificate that they began with.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::follow::{Trouble, follow};
use super::pair::{PairDigest, PairError, PemFile, TlsPair, certificates_in, read};
use super::watch::WatchLimits;
use crate::telemetry::metrics::Metrics;

/// The only protocol of the server, as ALPN names it.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The files of the flags.
#[derive(Debug, Clone)]
pub(crate) struct HttpsFiles {
    /// `--external-http-tls-key`.
    pub(crate) key: PathBuf,
    /// `--external-http-tls-cert`.
    pub(crate) cert: PathBuf,
    /// `--external-http-tls-client-ca`.
    pub(crate) client_ca: Option<PathBuf>,
}

/// The files cannot be used. All of these can be transient: a renewal may be under way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpsError {
    /// Key or certificate, or the two together.
    #[error("{0}")]
    Pair(PairError),
    /// A form of key that Postgres may understand, but not this server.
    #[error("the private key {} cannot be used for HTTPS: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The library refuses them.
    #[error("the private key {} and the certificate {} cannot be used for HTTPS: {error}",
        key.display(), cert.display())]
    Refused {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        cert: PathBuf,
        /// What the library says.
        error: rustls::Error,
    },
    /// The certificates of the authorities.
    #[error("the file {} holds no certificate authority: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What the library says.
        why: String,
    },
}

/// What the files say now.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    digest: [PairDigest; 2],
    not_after: Option<DateTime<Utc>>,
}

impl HttpsFiles {
    fn load(&self) -> Result<Loaded, HttpsError> {
        let pair = TlsPair::of_files(&self.key, &self.cert).map_err(HttpsError::Pair)?;
        if let Some(why) = pair.doubt() {
            return Err(HttpsError::Key { path: self.key.clone(), why });
        }
        let authorities = self.client_ca.as_ref();
        let authorities = authorities.map(|path| read(PemFile::Authorities, path)).transpose();
        let authorities = authorities.map_err(HttpsError::Pair)?;
        let config = self.config(&pair, authorities.as_deref())?;
        let digest = [pair.digest(), PairDigest::of(&[], &authorities.unwrap_or_default())];
        Ok(Loaded { config: Arc::new(config), digest, not_after: pair.not_after() })
    }

    fn config(
        &self,
        pair: &TlsPair,
        authorities: Option<&[u8]>,
    ) -> Result<ServerConfig, HttpsError> {
        let refused = |error| {
            let (key, cert) = (self.key.clone(), self.cert.clone());
            HttpsError::Refused { key, cert, error }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(refused)?;
        let builder = match (authorities, &self.client_ca) {
            (Some(text), Some(path)) => {
                let failed = |why| HttpsError::Authorities { path: path.clone(), why };
                let mut roots = RootCertStore::empty();
                let certificates = certificates_in(PemFile::Authorities, text, path);
                for certificate in certificates.map_err(HttpsError::Pair)? {
                    roots.add(certificate).map_err(|error| failed(error.to_string()))?;
                }
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| failed(e.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(pair.cert()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(pair.key().expose());
        let (Ok(chain), Ok(key)) = (chain, key) else {
            // `TlsPair` has parsed both.
            return Err(refused(rustls::Error::NoCertificatesPresented));
        };
        let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        // No sessions to resume: they cost memory, and would outlive a certificate of a client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Whether the files can be used, by the user that the process runs as now.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub(crate) fn check(&self) -> Result<(), HttpsError> {
        self.load().map(drop)
    }

    /// Reads the files for the start.
    ///
    /// # Errors
    /// See [`HttpsError`].
    pub(crate) fn open(self, metrics: Metrics) -> Result<Https, HttpsError> {
        let loaded = self.load()?;
        Ok(Https { files: self, loaded, metrics })
    }
}

/// Files that can be used, not followed yet.
#[derive(Debug)]
pub(crate) struct Https {
    files: HttpsFiles,
    loaded: Loaded,
    metrics: Metrics,
}

/// The task that follows the files. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Renewal {
    _task: AbortOnDropHandle<()>,
}

impl Https {
    /// Follows the files. The configuration is for new connections. Needs a runtime.
    pub(crate) fn follow(
        self,
        limits: WatchLimits,
    ) -> (watch::Receiver<Arc<ServerConfig>>, Renewal) {
        let Self { files, loaded, metrics } = self;
        let Loaded { config, digest: mut in_use, not_after } = loaded;
        announce(&metrics, not_after);
        let (sender, configs) = watch::channel(config);
        let mut trouble = Trouble::default();
        let failures = metrics.http.renewal_failures();
        let judge = move |now: Result<Loaded, HttpsError>| match now {
            Ok(now) => {
                if trouble.is_over() {
                    tracing::info!("the files of the external HTTP server can be used now");
                }
                if now.digest != in_use {
                    in_use = now.digest;
                    sender.send_replace(now.config);
                    announce(&metrics, now.not_after);
                }
                limits.poll
            }
            Err(error) => {
                failures.inc();
                trouble.goes_on(&error, (limits.retry, limits.poll), |text| {
                    tracing::warn!(
                        "the certificate of the external HTTP server stays as it is, because the \
                         files cannot be used: {text}"
                    );
                })
            }
        };
        let task = async move {
            let files = Arc::new(files);
            let loader = Arc::clone(&files);
            let paths: Vec<_> = [Some(&files.key), Some(&files.cert), files.client_ca.as_ref()]
                .into_iter()
                .flatten()
                .map(PathBuf::as_path)
                .collect();
            follow(&paths, limits.settle, move || loader.load(), judge).await;
        };
        (configs, Renewal { _task: AbortOnDropHandle::new(tokio::spawn(task)) })
    }
}

fn announce(metrics: &Metrics, not_after: Option<DateTime<Utc>>) {
    if let Some(end) = not_after {
        metrics.http.set_certificate_expiry(end.timestamp());
    }
    match not_after {
        Some(end) if end < Utc::now() => tracing::warn!(
            "the external HTTP server presents a certificate that has expired on {end}: clients \
             refuse it; replace it"
        ),
        Some(end) => {
            tracing::info!("the external HTTP server presents a certificate valid until {end}");
        }
        None => tracing::info!("the external HTTP server presents a certificate"),
    }
}

#[cfg(test)]
mod tests;
