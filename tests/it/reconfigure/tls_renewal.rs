//! Key and certificate are replaced while Postgres runs (04 §15 T5, T6).

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, Pair, TlsFiles, served};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// A pair made by openssl, in a format that the original cannot read.
macro_rules! made_by_openssl {
    ($key:literal, $cert:literal) => {
        Pair {
            key: include_str!(concat!("../../../src/tls/testdata/", $key, ".key")).to_owned(),
            cert: include_str!(concat!("../../../src/tls/testdata/", $cert, ".crt")).to_owned(),
        }
    };
}

async fn rounds(compute: &Compute) -> usize {
    let log = compute.settled_log().await;
    log.matches("Changing compute status from running to configuration-pending").count()
}

#[tokio::test]
async fn every_kind_of_key_is_served_without_a_restart() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        let first = made_by_openssl!("p256-sec1", "p256-sec1");
        files.put_pair(&first);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;
        served(&compute, &bed, &first).await;
        let postmaster = bed.pgdata_text("postmaster.pid").lines().next().map(str::to_owned);
        let session = compute.sql().await;

        let pairs = [
            made_by_openssl!("p384-sec1", "p384-sec1"),
            made_by_openssl!("rsa-pkcs1", "rsa-pkcs1"),
            made_by_openssl!("rsa-pkcs8", "rsa-pkcs1"),
            made_by_openssl!("ed25519", "ed25519"),
            Pair::new(),
            made_by_openssl!("p521", "p521"),
        ];
        let mut seen = 1;
        for pair in &pairs {
            files.put_pair(pair);
            seen += 1;
            compute.wait_for_log_times("installed the TLS certificate", seen).await;
            served(&compute, &bed, pair).await;
            assert_eq!(bed.pgdata_text("server.key"), pair.key);
        }
        compute.wait_for_log("could not verify that the TLS key").await;
        let after = bed.pgdata_text("postmaster.pid").lines().next().map(str::to_owned);
        assert_eq!(after, postmaster);
        session.simple_query("SELECT 1").await.unwrap();
        // One reload for each renewal, and none at the start (01 §24 no. 26).
        assert_eq!(rounds(&compute).await, pairs.len(), "{}", compute.log());
        compute.wait_for("running").await;

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn secrets_swapped_as_kubernetes_does_it() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        let (first, second) = (Pair::new(), Pair::new());
        files.mount("..v1", &first);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;
        served(&compute, &bed, &first).await;
        files.mount("..v2", &second);
        served(&compute, &bed, &second).await;
        // The same content in another folder is not a renewal; the next change is.
        files.mount("..v3", &second);
        let third = Pair::new();
        files.mount("..v4", &third);
        served(&compute, &bed, &third).await;
        compute.assert_logged("installed the TLS certificate", 3).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn half_a_renewal_leaves_the_old_certificate_in_force() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        let (first, second) = (Pair::new(), Pair::new());
        files.put_pair(&first);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;
        files.put("tls.crt", &second.cert);
        compute.wait_for_log("does not belong to the certificate").await;
        served(&compute, &bed, &first).await;
        // A new spec is applied nevertheless, with the certificate as it is (04 W2).
        bed.spec.set("log_line_prefix", "new %p ");
        let (code, answer) = compute.post("/configure", Some(&files.config(&bed))).await;
        assert_eq!(code, 200, "{answer}");
        served(&compute, &bed, &first).await;
        assert_eq!(bed.pgdata_text("server.crt"), first.cert);
        files.put("tls.key", &second.key);
        served(&compute, &bed, &second).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
