//! The spec turns the feature on and off (04 §7.1), and `/configure` also reads the certificate.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, Pair, TlsFiles, served};
use crate::support::server::on_one_server;

#[tokio::test]
async fn tls_is_switched_on_and_off_by_the_spec() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let (files, pair) = (TlsFiles::new(&bed), Pair::new());
        files.put_pair(&pair);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;
        let postmaster = bed.pgdata_text("postmaster.pid").lines().next().map(str::to_owned);

        bed.spec.member("features", json!(["tls_experimental"]));
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{answer}");
        served(&compute, &bed, &pair).await;
        // When the answer comes, PGDATA has the files' content of that moment.
        let next = Pair::new();
        files.put_pair(&next);
        // A renewal in progress may delay it.
        let deadline = std::time::Instant::now() + crate::support::assertions::PATIENCE;
        loop {
            assert!(std::time::Instant::now() < deadline, "{}", compute.log());
            let (code, answer) = compute.configure(&bed).await;
            if code == 200 {
                break;
            }
            assert_eq!(code, 412, "{answer}");
        }
        assert_eq!(bed.pgdata_text("server.crt"), next.cert);
        served(&compute, &bed, &next).await;

        bed.spec.member("features", json!([]));
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{answer}");
        let deadline = std::time::Instant::now() + crate::support::assertions::PATIENCE;
        while compute.sql_text("SHOW ssl").await != "off" {
            assert!(std::time::Instant::now() < deadline, "{}", compute.log());
        }
        let (_, metrics) = compute.get("/metrics").await;
        assert!(!metrics.as_str().unwrap().contains("tls_certificate"), "{metrics}");
        let after = bed.pgdata_text("postmaster.pid").lines().next().map(str::to_owned);
        assert_eq!(after, postmaster);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
