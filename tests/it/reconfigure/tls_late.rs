//! Key and certificate appear, or match, only after the start has begun (04 §15 T2, T3).

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, Pair, TlsFiles, copies, served};
use crate::support::server::on_one_server;

#[tokio::test]
async fn a_certificate_that_comes_late_is_waited_for() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let (files, pair) = (TlsFiles::new(&bed), Pair::new());
        files.put("tls.key", &pair.key);
        let mut compute = files.start(&bed);
        compute.wait_for_log("tls.crt does not exist").await;
        // All other steps continue at the same time, up to the start of Postgres.
        compute.wait_for("init").await;
        files.put("tls.crt", &pair.cert);
        compute.wait_for("running").await;
        served(&compute, &bed, &pair).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_pair_that_does_not_belong_together_is_never_installed() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let (files, pair) = (TlsFiles::new(&bed), Pair::new());
        files.put_pair(&Pair { key: Pair::new().key, cert: pair.cert.clone() });
        let mut compute = files.start(&bed);
        compute.wait_for_log("does not belong to the certificate").await;
        // The basebackup is unpacked: from here on only the pair is missing.
        let dynshmem = bed.pgdata().join("pg_dynshmem");
        let deadline = std::time::Instant::now() + crate::support::assertions::PATIENCE;
        while !dynshmem.is_symlink() {
            assert!(std::time::Instant::now() < deadline, "{}", compute.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(copies(&bed), [""; 0]);
        let (_, status) = compute.get("/status").await;
        assert_eq!(status["status"], "init");

        files.put("tls.key", &pair.key);
        compute.wait_for("running").await;
        assert_eq!(bed.pgdata_text("server.key"), pair.key);
        served(&compute, &bed, &pair).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_signal_ends_the_wait() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        let mut compute = files.start(&bed);
        compute.wait_for_log("tls.key does not exist").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
