//! Certificates for `https://`: whom the client trusts, and how it shows who it is.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::os::denied::explained;
use crate::os::named_file;
use crate::secret::Secret;

/// A file of [`Certificates`] cannot be used. The text does not repeat the content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// It cannot be read.
    #[error("could not read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{} {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
}

/// Certificates of a client. By default it trusts the authorities of the system, and shows none.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// PEM text.
    authorities: Option<Vec<u8>>,
    /// PEM text of the chain and its key.
    identity: Option<Secret<Vec<u8>>>,
}

impl Certificates {
    /// Reads PEM files. `authorities` are trusted in place of those of the system; `identity` is the
    /// certificate of the client, with its chain, and its private key.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what it should.
    pub fn from_files(
        authorities: Option<&Path>,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, CertificatesError> {
        let authorities = authorities.map(certificates_in).transpose()?;
        let identity = identity.map(|(certificate, key)| {
            let mut text = certificates_in(certificate)?;
            let key_text = read(key)?;
            if PrivateKeyDer::from_pem_slice(&key_text).is_err() {
                return Err(unusable(key, "holds no private key in PEM form, without a password"));
            }
            text.push(b'\n');
            text.extend(key_text);
            Ok(Secret::new(text))
        });
        Ok(Self { authorities, identity: identity.transpose()? })
    }

    /// The texts, for `http_client::with_certificates`.
    pub(super) fn texts(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let identity = self.identity.as_ref().map(|text| text.expose().as_slice());
        (self.authorities.as_deref(), identity)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificatesError> {
    named_file::read(path, named_file::CREDENTIAL)
        .map_err(|error| explained(error, path))
        .map_err(|error| CertificatesError::Read { path: path.to_owned(), error })
}

/// The text of a file with certificates.
fn certificates_in(path: &Path) -> Result<Vec<u8>, CertificatesError> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    if all.is_ok_and(|all| !all.is_empty()) {
        Ok(text)
    } else {
        Err(unusable(path, "holds no certificate in PEM form"))
    }
}

fn unusable(path: &Path, what: &'static str) -> CertificatesError {
    CertificatesError::Unusable { path: path.to_owned(), what }
}

/// What to do about an error of TLS, or of the lack of it, behind the error of a request.
pub(super) fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match inner(error).downcast_ref() {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return Some(
                    "no authority that is trusted here has signed the certificate of the server: \
                     name the file of its authority with --ca-file",
                );
            }
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                return Some("the server does not speak TLS: its URL begins with http://");
            }
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
                return Some(
                    "the server wants a certificate of the client: name it with --client-cert and \
                     --client-key",
                );
            }
            Some(rustls::Error::AlertReceived(
                AlertDescription::UnknownCA | AlertDescription::DecryptError,
            )) => {
                return Some(
                    "the server does not trust the certificate of the client: its authority must \
                     be in the file of --external-http-tls-client-ca",
                );
            }
            _ => {}
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Some("the server does not speak plain HTTP: its URL may begin with https://");
        }
        cause = error.source();
    }
    None
}

/// What an error of the system carries, which its chain of causes leaves out.
fn inner<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(carried) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = carried;
    }
    error
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::http_client::{self, Redirects};

    #[test]
    fn advice_is_found_behind_errors_of_the_system() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, unknown));
        assert!(advice(&error).unwrap().contains("--ca-file"));
        assert_eq!(advice(&io::Error::from_raw_os_error(1)), None);
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let key = KeyPair::generate().unwrap();
        let pair = CertificateParams::new(["c".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (cert, key) = (put("cert", &pair.pem()), put("key", &key.serialize_pem()));
        let read = Certificates::from_files(Some(&cert), Some((&cert, &key))).unwrap();
        assert!(!format!("{read:?}").contains("PRIVATE"), "{read:?}");
        let (authorities, identity) = read.texts();
        let builder = http_client::builder(Redirects::NotFollowed);
        http_client::with_certificates(builder, authorities, identity).unwrap().build().unwrap();

        let error = |ca, identity| Certificates::from_files(ca, identity).unwrap_err().to_string();
        assert!(error(Some(&key), None).ends_with("key holds no certificate in PEM form"));
        let wrong = error(None, Some((&cert, &cert)));
        assert!(wrong.contains("cert holds no private key in PEM form"), "{wrong}");
        let missing = error(Some(Path::new("/no/such")), None);
        assert!(missing.starts_with("could not read /no/such: No such file"), "{missing}");
    }
}
