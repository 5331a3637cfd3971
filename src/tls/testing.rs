//! Pairs for tests: generated with rcgen, or by openssl where rcgen lacks the form.

use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};

use crate::spec::wire::TlsConfig;

/// The two texts of a fixture in `testdata`.
macro_rules! fixture {
    ($key:literal, $cert:literal) => {
        $crate::tls::testing::Texts {
            key: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/tls/testdata/",
                $key,
                ".key"
            ))
            .to_owned(),
            cert: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/tls/testdata/",
                $cert,
                ".crt"
            ))
            .to_owned(),
        }
    };
}
pub(super) use fixture;

/// Content of the two files.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    pub key: String,
    pub cert: String,
}

/// A new self-signed pair.
pub(super) fn pair_of(algorithm: &'static SignatureAlgorithm) -> Texts {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let cert = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    Texts { key: key.serialize_pem(), cert: cert.pem() }
}

/// A new pair of the usual type.
pub(super) fn new_pair() -> Texts {
    pair_of(&PKCS_ECDSA_P256_SHA256)
}

/// A configuration with both files in this directory.
pub(super) fn config(dir: &Path) -> TlsConfig {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    TlsConfig { key_path: path("tls.key"), cert_path: path("tls.crt") }
}

/// Writes both files in place.
pub(super) fn put(dir: &Path, texts: &Texts) {
    fs::write(dir.join("tls.key"), &texts.key).unwrap();
    fs::write(dir.join("tls.crt"), &texts.cert).unwrap();
}
