//! Tests of the forms of keys and certificates.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::*;
use crate::tls::testing::{Texts, config, fixture, new_pair, pair_of, put};

fn load(texts: &Texts) -> Result<TlsPair, PairError> {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), texts);
    let pair = TlsPair::load(&config(dir.path()));
    if let Ok(pair) = &pair {
        assert!(is_version_2(texts) || pair.key().expose() == texts.key.as_bytes(), "unchanged");
        assert_eq!(pair.cert(), texts.cert.as_bytes(), "unchanged");
    }
    pair
}

/// Whether this is an Ed25519 key as ring writes it.
fn is_version_2(texts: &Texts) -> bool {
    matches!(
        PrivateKeyDer::from_pem_slice(texts.key.as_bytes()),
        Ok(PrivateKeyDer::Pkcs8(key)) if key.secret_pkcs8_der().get(2..5) == Some(&[2, 1, 1])
    )
}

#[track_caller]
fn belongs_together(texts: &Texts) {
    assert_eq!(load(texts).unwrap().doubt(), None);
}

/// Every pair of another test's key with this one's certificate.
#[track_caller]
fn is_refused(key: &Texts, cert: &Texts) {
    let error = load(&Texts { key: key.key.clone(), cert: cert.cert.clone() }).unwrap_err();
    assert!(matches!(error, PairError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("tls.key") && text.contains("tls.crt"), "{text}");
}

fn supported() -> Vec<Texts> {
    vec![
        // SEC1 with a block of EC PARAMETERS in front.
        fixture!("p256-sec1", "p256-sec1"),
        fixture!("p384-sec1", "p384-sec1"),
        fixture!("rsa-pkcs1", "rsa-pkcs1"),
        fixture!("ed25519", "ed25519"),
        new_pair(),
        pair_of(&PKCS_ECDSA_P384_SHA384),
        pair_of(&PKCS_ED25519),
    ]
}

#[test]
fn every_supported_form() {
    assert!(fixture!("p256-sec1", "p256-sec1").key.starts_with("-----BEGIN EC PARAMETERS"));
    supported().iter().for_each(belongs_together);
    belongs_together(&fixture!("rsa-pkcs8", "rsa-pkcs1"));
    // Version 1 of X.509, as `openssl x509 -req` makes them.
    belongs_together(&fixture!("p256-sec1", "v1"));
}

/// OpenSSL 3.0 does not read the second version of PKCS#8.
#[test]
fn a_key_of_version_2_becomes_one_that_openssl_reads() {
    let new = pair_of(&PKCS_ED25519);
    assert!(is_version_2(&new), "or this tests nothing");
    let pair = load(&new).unwrap();
    let key = String::from_utf8(pair.key().expose().clone()).unwrap();
    // The key has the form that openssl writes, and belongs to the same certificate.
    assert_eq!(key.len(), fixture!("ed25519", "ed25519").key.len());
    let old = Texts { key, cert: new.cert.clone() };
    assert!(!is_version_2(&old));
    assert_eq!(load(&old).unwrap().doubt(), None);
    // The digest identifies the file, not the converted key.
    assert_ne!(load(&old).unwrap().digest(), pair.digest());
}

#[test]
fn no_key_goes_with_the_certificate_of_another() {
    let pairs = supported();
    for (i, key) in pairs.iter().enumerate() {
        for (j, cert) in pairs.iter().enumerate() {
            if i != j {
                is_refused(key, cert);
            }
        }
    }
    is_refused(&new_pair(), &new_pair());
    // The bits cannot be compared, but the families differ.
    is_refused(&fixture!("p521", "p521"), &pairs[2]);
    is_refused(&fixture!("rsa-pkcs8", "rsa-pkcs1"), &fixture!("p521", "p521"));
}

#[test]
fn what_cannot_be_compared_is_let_through_with_a_doubt() {
    for (texts, word) in [
        (fixture!("p521", "p521"), "type or size"),
        (fixture!("encrypted", "p256-sec1"), "encrypted"),
        (fixture!("encrypted-legacy", "p256-sec1"), "encrypted"),
    ] {
        let pair = load(&texts).unwrap();
        assert!(pair.doubt().unwrap().contains(word), "{:?}", pair.doubt());
        assert!(pair.not_after().is_some());
    }
}

#[test]
fn chains_and_text_around() {
    let (pair, other) = (new_pair(), new_pair());
    let chain = format!("subject=/CN=x\n\n{}issuer\n{}\nthe end", pair.cert, other.cert);
    let key = format!("Bag Attributes\n{}\ntrailing", pair.key.replace('\n', "\r\n"));
    belongs_together(&Texts { key: key.clone(), cert: chain });
    // The server's own certificate comes first.
    let wrong_way = Texts { key, cert: format!("{}{}", other.cert, pair.cert) };
    assert!(matches!(load(&wrong_way).unwrap_err(), PairError::Mismatch { .. }));
    // One file with both.
    let both = format!("{}{}", pair.key, pair.cert);
    belongs_together(&Texts { key: both.clone(), cert: both });
}

#[test]
fn each_fault_has_its_own_sentence() {
    let pair = new_pair();
    let half = |text: &str| text.split_at(text.len() / 2).0.to_owned();
    let rot = |text: &str| text.replace("MI", "AA");
    let cases: [(&str, &str, &str, &str); 8] = [
        ("", &pair.cert, "tls.key", "holds no TLS private key"),
        (&pair.key, "", "tls.crt", "holds no TLS certificate"),
        (&pair.cert, &pair.cert, "tls.key", "holds no TLS private key"),
        ("rubbish\0\u{ff}", &pair.cert, "tls.key", "holds no TLS private key"),
        (&half(&pair.key), &pair.cert, "tls.key", "END line is missing"),
        (&pair.key, &format!("{}{}", pair.cert, half(&pair.cert)), "tls.crt", "END line"),
        (&rot(&pair.key), &pair.cert, "tls.key", "not a key"),
        (&pair.key, &rot(&pair.cert), "tls.crt", "not a certificate"),
    ];
    for (key, cert, file, words) in cases {
        let texts = Texts { key: key.to_owned(), cert: cert.to_owned() };
        let text = load(&texts).unwrap_err().to_string();
        assert!(text.contains(file) && text.contains(words), "{text} ({words})");
    }
}

#[test]
fn unusable_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let error = TlsPair::load(&config).unwrap_err();
    assert!(matches!(error, PairError::Missing { what: PemFile::Key, .. }), "{error}");
    put(dir.path(), &new_pair());
    fs::remove_file(&config.cert_path).unwrap();
    let error = TlsPair::load(&config).unwrap_err();
    assert!(matches!(error, PairError::Missing { what: PemFile::Certificate, .. }), "{error}");
    nix::unistd::mkfifo(Path::new(&config.cert_path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = TlsPair::load(&config).unwrap_err();
    assert!(matches!(error, PairError::NotAFile { .. }), "{error}");
    if !nix::unistd::geteuid().is_root() {
        fs::set_permissions(&config.key_path, fs::Permissions::from_mode(0o000)).unwrap();
        let error = TlsPair::load(&config).unwrap_err();
        assert!(matches!(error, PairError::Read { what: PemFile::Key, .. }), "{error}");
    }
}

#[test]
fn the_digest_tells_contents_apart() {
    let (one, other) = (new_pair(), new_pair());
    let digest = |texts: &Texts| load(texts).unwrap().digest();
    assert_eq!(digest(&one), digest(&one));
    assert_ne!(digest(&one), digest(&other));
    // A longer chain is different content, and so is an added blank.
    let longer = Texts { cert: format!("{}{}", one.cert, other.cert), ..one.clone() };
    assert_ne!(digest(&one), digest(&longer));
    assert_ne!(PairDigest::of(b"ab", b"c"), PairDigest::of(b"a", b"bc"));
    assert_eq!(PairDigest::of(b"ab", b"c").to_string().len(), 16);
}

#[test]
fn end_of_validity() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 5, 17);
    let cert = params.self_signed(&key).unwrap();
    let pair = load(&Texts { key: key.serialize_pem(), cert: cert.pem() }).unwrap();
    let end: DateTime<Utc> = "2031-05-17T00:00:00Z".parse().unwrap();
    assert_eq!(pair.not_after(), Some(end));
}

#[test]
fn the_key_is_never_printed() {
    let texts = new_pair();
    let pair = load(&texts).unwrap();
    let shown = format!("{pair:?}");
    assert!(shown.contains("[secret]"), "{shown}");
    for line in texts.key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
}
