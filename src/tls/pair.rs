//! A private key and its certificate chain, read from PEM files and compared (04 §7.3).
//!
//! First step towards `server.key` and `server.crt`: the content is kept as it was read, so the
//! compared content is also the installed one, even if the files change in between.
//!
//! Invariant: a key that can be compared with the first certificate and differs from it never
//! becomes a [`TlsPair`]. A form that Postgres may understand but this module does not (P-521,
//! encrypted keys) is accepted with a [`TlsPair::doubt`] (04 W3). Texts stay unchanged, except for
//! one valid form of key that OpenSSL 3.0 cannot read (`as_pkcs8_v1`).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::spki::{
    AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
};

use crate::os::denied::explained;
use crate::secret::Secret;
use crate::spec::wire::TlsConfig;

/// Larger than any chain; a path to another kind of file must not fill the memory.
const MAX_FILE: u64 = 1 << 20;
/// First byte of an elliptic curve point in uncompressed form.
const UNCOMPRESSED: u8 = 4;
/// Line length of a PEM text.
const PEM_LINE: usize = 64;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PemFile {
    /// `key_path`.
    Key,
    /// `cert_path`.
    Certificate,
    /// The file of `--external-http-tls-client-ca`.
    Authorities,
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "private key",
            Self::Certificate => "certificate",
            Self::Authorities => "certificate authority",
        })
    }
}

/// The pair is not usable. All of these can be transient: a renewal may be under way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PairError {
    /// The file does not exist.
    #[error("the TLS {what} file {} does not exist", path.display())]
    Missing {
        /// Kind of file.
        what: PemFile,
        /// Path in the configuration.
        path: PathBuf,
    },
    /// A directory, a pipe, or a file that is far too large.
    #[error("{} is not a PEM file: the TLS {what} cannot be read from it", path.display())]
    NotAFile {
        /// Kind of file.
        what: PemFile,
        /// Path in the configuration.
        path: PathBuf,
    },
    /// The system reported an error.
    #[error("could not read the TLS {what} file {}: {error}", path.display())]
    Read {
        /// Kind of file.
        what: PemFile,
        /// Path in the configuration.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The file is empty or has other content.
    #[error("the file {} holds no TLS {what} in PEM form", path.display())]
    Nothing {
        /// Kind of file.
        what: PemFile,
        /// Path in the configuration.
        path: PathBuf,
    },
    /// The content is truncated or garbled.
    #[error("the TLS {what} in {} is damaged: {reason}", path.display())]
    Damaged {
        /// Kind of file.
        what: PemFile,
        /// Path in the configuration.
        path: PathBuf,
        /// Kind of damage; quotes nothing of the content.
        reason: &'static str,
    },
    /// Key and certificate belong to different pairs.
    #[error(
        "the private key {} does not belong to the certificate {} (the first one in the file)",
        key.display(), cert.display()
    )]
    Mismatch {
        /// `key_path`.
        key: PathBuf,
        /// `cert_path`.
        cert: PathBuf,
    },
}

/// Identifies the content of both files: SHA-256 over key and certificates.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PairDigest([u8; SHA256_OUTPUT_LEN]);

impl PairDigest {
    pub(super) fn of(key: &[u8], cert: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        // The length prevents a byte from moving between the two texts unnoticed.
        context.update(&key.len().to_be_bytes());
        context.update(key);
        context.update(cert);
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }
}

/// The first bytes, for the log.
impl fmt::Display for PairDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PairDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Key and certificate chain as they were in the files.
#[derive(Debug)]
pub(crate) struct TlsPair {
    key: Secret<Vec<u8>>,
    cert: Vec<u8>,
    leaf: Vec<u8>,
    digest: PairDigest,
    doubt: Option<&'static str>,
    not_after: Option<DateTime<Utc>>,
}

impl TlsPair {
    /// Reads both files and compares them. Blocks on the file system.
    ///
    /// # Errors
    /// See [`PairError`].
    pub(crate) fn load(config: &TlsConfig) -> Result<Self, PairError> {
        Self::of_files(Path::new(&config.key_path), Path::new(&config.cert_path))
    }

    /// As [`Self::load`], for files that are not those of Postgres.
    pub(super) fn of_files(key_path: &Path, cert_path: &Path) -> Result<Self, PairError> {
        let key = read(PemFile::Key, key_path)?;
        let cert = read(PemFile::Certificate, cert_path)?;

        // Postgres refuses the whole file for a damaged one.
        let chain = certificates_in(PemFile::Certificate, &cert, cert_path)?;
        let leaf_der = chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
        let leaf = CertificateInner::<Raw>::from_der(&leaf_der).ok();
        let digest = PairDigest::of(&key, &cert);
        let mut readable = None;
        let doubt = match parse_key(&key, key_path)? {
            Key::Unknown(doubt) => Some(doubt),
            Key::Plain(der) => match compare(&der, leaf.as_ref(), key_path)? {
                Comparison::Same => {
                    readable = as_pkcs8_v1(&der);
                    None
                }
                Comparison::Doubt(doubt) => Some(doubt),
                Comparison::Different => {
                    let (key, cert) = (key_path.to_owned(), cert_path.to_owned());
                    return Err(PairError::Mismatch { key, cert });
                }
            },
        };
        let not_after = leaf.as_ref().and_then(not_after);
        let key = Secret::new(readable.unwrap_or(key));
        Ok(Self { key, cert, leaf: leaf_der, digest, doubt, not_after })
    }

    /// Content of the key file, or the same key in a form that OpenSSL 3.0 reads.
    pub(crate) fn key(&self) -> &Secret<Vec<u8>> {
        &self.key
    }

    /// Content of the certificate file, the full chain.
    pub(crate) fn cert(&self) -> &[u8] {
        &self.cert
    }

    /// The server's own certificate, as sent to clients.
    pub(crate) fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Digest of the content of both files.
    pub(crate) fn digest(&self) -> PairDigest {
        self.digest
    }

    /// Why key and certificate could not be compared; `None` if they were and belong together.
    pub(crate) fn doubt(&self) -> Option<&'static str> {
        self.doubt
    }

    /// End of validity of the server's certificate, if known.
    pub(crate) fn not_after(&self) -> Option<DateTime<Utc>> {
        self.not_after
    }
}

pub(super) fn read(what: PemFile, path: &Path) -> Result<Vec<u8>, PairError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => PairError::Missing { what, path: path.to_owned() },
        _ => PairError::Read { what, path: path.to_owned(), error: explained(error, path) },
    };
    let meta = fs::metadata(path).map_err(failed)?;
    // Opening a pipe could block forever.
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(PairError::NotAFile { what, path: path.to_owned() });
    }
    let mut text = Vec::new();
    File::open(path).and_then(|f| f.take(MAX_FILE).read_to_end(&mut text)).map_err(failed)?;
    Ok(text)
}

/// The certificates of a file, of which there is one at least. Each is checked.
pub(super) fn certificates_in(
    what: PemFile,
    text: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let damaged = |reason| PairError::Damaged { what, path: path.to_owned(), reason };
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| damaged(pem_reason(&error)))?;
        if !is_sequence(&certificate) {
            return Err(damaged("a certificate is cut short or not a certificate"));
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(PairError::Nothing { what, path: path.to_owned() });
    }
    Ok(certificates)
}

enum Key {
    Plain(PrivateKeyDer<'static>),
    /// A form of key that only Postgres can judge.
    Unknown(&'static str),
}

fn parse_key(text: &[u8], path: &Path) -> Result<Key, PairError> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(Key::Plain(key)),
        Err(_) if has_line(text, b"Proc-Type: 4,ENCRYPTED", b"") => {
            Ok(Key::Unknown("the private key is encrypted"))
        }
        Err(pem::Error::NoItemsFound) if has_line(text, b"-----BEGIN ", b"PRIVATE KEY-----") => {
            Ok(Key::Unknown("the private key is encrypted or of an unusual kind"))
        }
        Err(pem::Error::NoItemsFound) => {
            Err(PairError::Nothing { what: PemFile::Key, path: path.to_owned() })
        }
        Err(error) => Err(PairError::Damaged {
            what: PemFile::Key,
            path: path.to_owned(),
            reason: pem_reason(&error),
        }),
    }
}

fn has_line(text: &[u8], start: &[u8], end: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .any(|line| line.starts_with(start) && line.ends_with(end))
}

enum Comparison {
    Same,
    Different,
    Doubt(&'static str),
}

/// Compares public keys by algorithm and bits.
fn compare(
    key: &PrivateKeyDer<'_>,
    leaf: Option<&CertificateInner<Raw>>,
    path: &Path,
) -> Result<Comparison, PairError> {
    let signing = any_supported_type(key).ok();
    if signing.is_none() && !is_sequence(key.secret_der()) {
        let reason = "the key is cut short or not a key";
        return Err(PairError::Damaged { what: PemFile::Key, path: path.to_owned(), reason });
    }
    let Some(leaf) = leaf else {
        return Ok(Comparison::Doubt("the certificate has an unusual form"));
    };
    let theirs = &leaf.tbs_certificate.subject_public_key_info;
    let public = signing.as_ref().and_then(|key| key.public_key());
    let ours = public.as_deref().and_then(|spki| SubjectPublicKeyInfoRef::try_from(spki).ok());
    Ok(match ours {
        Some(ours) => compare_public(&ours, theirs),
        // The key is of another family.
        None if algorithm(key).is_some_and(|oid| oid != theirs.algorithm.oid) => {
            Comparison::Different
        }
        None => Comparison::Doubt("the type or size of the private key is not supported here"),
    })
}

fn compare_public(
    ours: &SubjectPublicKeyInfoRef<'_>,
    theirs: &SubjectPublicKeyInfoOwned,
) -> Comparison {
    let bits = theirs.subject_public_key.raw_bytes();
    if ours.algorithm.oid != theirs.algorithm.oid {
        Comparison::Different
    } else if ours.subject_public_key.raw_bytes() == bits {
        Comparison::Same
    } else if theirs.algorithm.oid == EC && bits.first() != Some(&UNCOMPRESSED) {
        Comparison::Doubt("the certificate holds its public key in compressed form")
    } else {
        Comparison::Different
    }
}

/// Algorithm of a private key that rustls does not support.
fn algorithm(key: &PrivateKeyDer<'_>) -> Option<ObjectIdentifier> {
    match key {
        PrivateKeyDer::Pkcs1(_) => Some(RSA),
        PrivateKeyDer::Sec1(_) => Some(EC),
        PrivateKeyDer::Pkcs8(key) => {
            // A sequence of version, algorithm, key.
            let whole = AnyRef::from_der(key.secret_pkcs8_der()).ok()?;
            let mut members = SliceReader::new(whole.value()).ok()?;
            members.decode::<AnyRef<'_>>().ok()?;
            Some(members.decode::<AlgorithmIdentifierRef<'_>>().ok()?.oid)
        }
        _ => None,
    }
}

/// Converts a PKCS#8 key of version 2 (RFC 5958), as ring and its users write Ed25519 keys, to
/// version 1, without the copy of the public key that OpenSSL 3.0 rejects. `None` for all other
/// keys.
fn as_pkcs8_v1(key: &PrivateKeyDer<'_>) -> Option<Vec<u8>> {
    let PrivateKeyDer::Pkcs8(key) = key else { return None };
    let whole = AnyRef::from_der(key.secret_pkcs8_der()).ok()?;
    let mut members = SliceReader::new(whole.value()).ok()?;
    let version = members.decode::<AnyRef<'_>>().ok()?;
    if version.value() != [1] {
        return None;
    }
    let mut plain = || -> der::Result<Vec<u8>> {
        let mut content = AnyRef::new(Tag::Integer, &[0])?.to_der()?;
        for _ in ["algorithm", "key"] {
            content.extend(members.decode::<AnyRef<'_>>()?.to_der()?);
        }
        AnyRef::new(Tag::Sequence, &content)?.to_der()
    };
    let base64 = STANDARD.encode(plain().ok()?);
    let mut text = b"-----BEGIN PRIVATE KEY-----\n".to_vec();
    for line in base64.as_bytes().chunks(PEM_LINE) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    Some(text)
}

fn not_after(leaf: &CertificateInner<Raw>) -> Option<DateTime<Utc>> {
    let seconds = leaf.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
}

/// Whether these bytes are one complete DER sequence, as every key and certificate is.
fn is_sequence(der: &[u8]) -> bool {
    AnyRef::from_der(der).is_ok_and(|any| any.tag() == Tag::Sequence)
}

/// A text without content; the texts of the library quote it.
fn pem_reason(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "it is not valid base64",
        _ => "it is not valid PEM",
    }
}

#[cfg(test)]
mod tests;
