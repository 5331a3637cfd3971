//! What files make a server of TLS, and what a renewal changes. Real handshakes are in `tests/it`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::tls::testing::{Texts, fixture, new_pair, put};

/// A test that waits longer has found a hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn files(dir: &Path) -> HttpsFiles {
    HttpsFiles { key: dir.join("tls.key"), cert: dir.join("tls.crt"), client_ca: None }
}

fn error_of(files: &HttpsFiles) -> String {
    files.check().unwrap_err().to_string()
}

#[test]
fn only_http_1_1_and_no_session() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &new_pair());
    let config = files(dir.path()).load().unwrap().config;
    assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    assert_eq!((config.send_tls13_tickets, config.session_storage.can_cache()), (0, false));
    assert_eq!(config.max_early_data_size, 0);
}

/// Every kind of key that the library knows; Postgres may use more.
#[test]
fn kinds_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    for texts in [
        fixture!("rsa-pkcs1", "rsa-pkcs1"),
        fixture!("rsa-pkcs8", "rsa-pkcs1"),
        fixture!("p256-sec1", "p256-sec1"),
        fixture!("p384-sec1", "p384-sec1"),
        fixture!("ed25519", "ed25519"),
    ] {
        put(dir.path(), &texts);
        files.check().unwrap();
    }
    for texts in [
        fixture!("p521", "p521"),
        fixture!("encrypted", "rsa-pkcs1"),
        fixture!("encrypted-legacy", "rsa-pkcs1"),
    ] {
        put(dir.path(), &texts);
        let error = error_of(&files);
        assert!(error.contains("tls.key cannot be used for HTTPS: the "), "{error}");
    }
}

#[test]
fn what_is_wrong_is_said_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path());
    let name = |name: &str| dir.path().join(name).display().to_string();
    let missing = format!("the TLS private key file {} does not exist", name("tls.key"));
    assert_eq!(error_of(&files), missing);
    let (one, other) = (new_pair(), new_pair());
    put(dir.path(), &Texts { key: one.key.clone(), cert: other.cert });
    let error = error_of(&files);
    assert!(error.contains("does not belong to the certificate"), "{error}");
    put(dir.path(), &one);
    files.client_ca = Some(dir.path().join("ca.crt"));
    let missing = format!("the TLS certificate authority file {} does not exist", name("ca.crt"));
    assert_eq!(error_of(&files), missing);
    for (text, what) in [
        ("nothing", "holds no TLS certificate authority in PEM form"),
        (one.key.as_str(), "holds no TLS certificate authority in PEM form"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "holds no certificate"),
    ] {
        fs::write(dir.path().join("ca.crt"), text).unwrap();
        let error = error_of(&files);
        assert!(error.contains(what) && error.contains(&name("ca.crt")), "{error}");
    }
    fs::write(dir.path().join("ca.crt"), one.cert).unwrap();
    files.check().unwrap();
}

#[tokio::test]
async fn a_renewal_is_for_new_connections() {
    let dir = tempfile::tempdir().unwrap();
    let pair = new_pair();
    put(dir.path(), &pair);
    let mut files = files(dir.path());
    files.client_ca = Some(dir.path().join("ca.crt"));
    fs::write(dir.path().join("ca.crt"), &pair.cert).unwrap();
    let metrics = Metrics::new().unwrap();
    let short = Duration::from_millis(10);
    let limits = WatchLimits { poll: short, retry: short, settle: short, ..WatchLimits::default() };
    let https = files.open(metrics.clone()).unwrap();
    let family = "compute_ctl_http_tls_certificate_expiry_timestamp_seconds";
    assert!(!metrics.render().unwrap().contains(family), "not served yet");
    let (mut configs, renewal) = https.follow(limits);
    let first = Arc::clone(&configs.borrow_and_update());
    assert!(metrics.render().unwrap().contains(family));

    let next = new_pair();
    fs::write(dir.path().join("tls.key"), &next.key).unwrap();
    fs::write(dir.path().join("tls.crt"), &next.cert).unwrap();
    tokio::time::timeout(PATIENCE, configs.changed()).await.unwrap().unwrap();
    let second = Arc::clone(&configs.borrow_and_update());
    assert!(!Arc::ptr_eq(&first, &second));
    // Another authority alone is a renewal, too.
    fs::write(dir.path().join("ca.crt"), &next.cert).unwrap();
    tokio::time::timeout(PATIENCE, configs.changed()).await.unwrap().unwrap();
    drop(renewal);
    assert!(tokio::time::timeout(PATIENCE, configs.changed()).await.unwrap().is_err(), "it ends");
}

/// Zero from the start, so that the first failure is an increase.
#[tokio::test]
async fn failed_renewals_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &new_pair());
    let metrics = Metrics::new().unwrap();
    let short = Duration::from_millis(10);
    let limits = WatchLimits { poll: short, retry: short, settle: short, ..WatchLimits::default() };
    let https = files(dir.path()).open(metrics.clone()).unwrap();
    let failures = || {
        let scrape = metrics.render().unwrap();
        let mut lines = scrape.lines();
        let name = "compute_ctl_http_tls_renewal_failures_total ";
        lines.find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok())
    };
    assert_eq!(failures(), None, "not served yet");
    let (_configs, _renewal) = https.follow(limits);
    assert_eq!(failures(), Some(0));
    fs::write(dir.path().join("tls.crt"), "nothing").unwrap();
    let counted = async {
        while failures() < Some(2) {
            tokio::time::sleep(short).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
}
