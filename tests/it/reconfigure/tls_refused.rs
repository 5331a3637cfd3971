//! Pairs that belong together and that Postgres cannot use: Postgres reports this in its log only,
//! and continues with the old pair (04 W7). Also keys in forms that Postgres cannot read directly.

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, Pair, TlsFiles, copies, served};
use crate::support::server::on_one_server;

/// A pair with an encrypted key: Postgres has no terminal to ask for the passphrase.
fn unreadable() -> Pair {
    Pair {
        key: include_str!("../../../src/tls/testdata/encrypted.key").to_owned(),
        cert: include_str!("../../../src/tls/testdata/p256-sec1.crt").to_owned(),
    }
}

#[tokio::test]
async fn the_last_good_pair_is_put_back() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let (files, first) = (TlsFiles::new(&bed), Pair::new());
        files.put_pair(&first);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;

        files.put_pair(&unreadable());
        compute.wait_for_log("Postgres could not use the TLS certificate").await;
        compute.wait_for("running").await;
        assert_eq!(bed.pgdata_text("server.key"), first.key);
        assert_eq!(bed.pgdata_text("server.crt"), first.cert);
        served(&compute, &bed, &first).await;
        // The same pair is not retried, but a new spec may have brought what was missing.
        let (code, answer) = compute.post("/configure", Some(&files.config(&bed))).await;
        assert_eq!(code, 200, "{answer}");
        compute.wait_for_log_times("Postgres could not use the TLS certificate", 2).await;
        assert_eq!(bed.pgdata_text("server.crt"), first.cert);
        served(&compute, &bed, &first).await;

        let next = Pair::new();
        files.put_pair(&next);
        served(&compute, &bed, &next).await;
        compute.assert_logged("Postgres could not use the TLS certificate", 2).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// 04 W2: a reconfiguration that makes TLS active waits for nothing.
#[tokio::test]
async fn switched_on_without_a_pair() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let (files, pair) = (TlsFiles::new(&bed), Pair::new());
        files.put("tls.key", &Pair::new().key);
        files.put("tls.crt", &pair.cert);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;

        bed.spec.member("features", json!(["tls_experimental"]));
        bed.spec.set("app.x", "new");
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{answer}");
        compute.wait_for_log("does not belong to the certificate").await;
        assert_eq!(copies(&bed), [""; 0]);
        // Everything else is in force, and Postgres serves.
        compute.wait_for_sql("SHOW app.x", "new").await;
        assert_eq!(compute.get("/status").await.1["status"], "running");

        files.put("tls.key", &pair.key);
        served(&compute, &bed, &pair).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// OpenSSL 3.0 does not read version 2 of PKCS#8, in which many programs write Ed25519 keys.
#[tokio::test]
async fn a_key_in_the_newer_form_is_served() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        let pair = Pair { key: key.serialize_pem(), cert };
        let files = TlsFiles::new(&bed);
        files.put_pair(&pair);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;
        assert_ne!(bed.pgdata_text("server.key"), pair.key);
        served(&compute, &bed, &pair).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
