//! The agent's configuration has `tls`, the spec has not the feature (04 §15 T4, 04 W5).

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, TlsFiles, copies};
use crate::support::server::on_one_server;

#[tokio::test]
async fn nothing_is_waited_for_and_nothing_is_written() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        // The folder does not even exist.
        let files = TlsFiles::new(&bed);
        let mut compute = files.start(&bed);
        compute.wait_for("running").await;
        assert_eq!(copies(&bed), [""; 0]);
        assert!(!bed.pgdata_text("postgresql.conf").contains("ssl"));
        assert_eq!(compute.sql_text("SHOW ssl").await, "off");
        let (_, metrics) = compute.get("/metrics").await;
        assert!(!metrics.as_str().unwrap().contains("tls_certificate"), "{metrics}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
