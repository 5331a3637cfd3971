//! Key and certificate exist before the start (04 §15 T1).

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, Pair, TlsFiles, served};
use crate::support::server::on_every_server;

#[tokio::test]
async fn postgres_serves_the_certificate() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("features", json!(["tls_experimental"]));
        let (files, pair) = (TlsFiles::new(&bed), Pair::new());
        files.put_pair(&pair);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;

        assert_eq!(bed.pgdata_text("server.key"), pair.key);
        assert_eq!(bed.pgdata_text("server.crt"), pair.cert);
        for name in ["server.key", "server.crt"] {
            let meta = std::fs::metadata(bed.pgdata().join(name)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(compute.sql_text("SHOW ssl").await, "on");
        served(&compute, &bed, &pair).await;

        let (_, metrics) = compute.get("/metrics").await;
        let metrics = metrics.as_str().unwrap();
        let days = metrics.lines().find_map(|line| {
            line.strip_prefix("compute_ctl_tls_certificate_expiry_days ")?.parse::<f64>().ok()
        });
        assert!(days.is_some_and(|days| days > 365.0), "{metrics}");
        // No file but these two is added to PGDATA.
        let hidden = std::fs::read_dir(bed.pgdata()).unwrap();
        let hidden =
            hidden.filter(|e| e.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
        assert_eq!(hidden.count(), 0);

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        let log = compute.log();
        for line in pair.key.lines().filter(|line| !line.starts_with('-')) {
            assert!(!log.contains(line), "the key is in the log");
        }
        assert_nothing_left(&bed);
    })
    .await;
}
