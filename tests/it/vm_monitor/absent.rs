//! Without `AUTOSCALING` there is no VM monitor (08 §1, case 1).

use std::net::TcpStream;

use nix::sys::signal::Signal;

use super::machine::{Machine, shown};
use crate::support::assertions::assert_nothing_left;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

#[tokio::test]
async fn no_port_no_metric_and_nothing_in_status() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let mut compute = Compute::spawn(&machine.bed, &machine.args(), &[]);
        compute.wait_for("running").await;
        assert!(TcpStream::connect(("127.0.0.1", machine.port)).is_err());
        assert!(shown(&compute).await.is_null());
        let (_, metrics) = compute.get("/metrics").await;
        assert!(!metrics.as_str().unwrap().contains("vm_monitor"));
        assert!(!compute.settled_log().await.contains("the VM monitor"));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&machine.bed);
    })
    .await;
}

/// The port is closed before the compute runs, and where the start fails.
#[tokio::test]
async fn a_failed_start_has_none() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        machine.bed.spec.set("max_connections", "nonsense");
        let mut compute = machine.spawn();
        compute.wait_for_failure().await;
        assert!(TcpStream::connect(("127.0.0.1", machine.port)).is_err());
        assert!(shown(&compute).await.is_null());
        compute.dismiss().await;
        assert_nothing_left(&machine.bed);
    })
    .await;
}
