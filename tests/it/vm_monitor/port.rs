//! A port that is in use: the compute runs, and the monitor waits for the port (08 §1, W4).

use std::net::{TcpListener, TcpStream};

use compute_ctl::dev::pageserver::Fault;
use serde_json::json;

use super::machine::{Machine, shown, until_shown};
use crate::support::server::on_one_server;

#[tokio::test]
async fn a_taken_port_is_said_and_tried_again() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let taken = TcpListener::bind(("127.0.0.1", machine.port)).unwrap();
        let mut compute = machine.spawn();
        compute.wait_for("running").await;
        let address = format!("127.0.0.1:{}", machine.port);
        compute.wait_for_log(&format!("the VM monitor cannot use {address}: ")).await;
        let seen = shown(&compute).await;
        assert!(seen["address"].is_null() && seen["error"].is_string(), "{seen}");
        drop(taken);
        until_shown(&compute, "/address", &json!(address)).await;
        assert!(shown(&compute).await.get("error").is_none());
        machine.agent().await.is_served(2).await;
        compute.assert_logged("the VM monitor cannot use", 1).await;
        machine.end(compute).await;
    })
    .await;
}

/// The port is taken before the compute touches anything, and closed until it runs.
#[tokio::test]
async fn it_is_reserved_from_the_begin_and_opened_when_running() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        machine.bed.pageserver.set_fault(Fault::Error("later".to_owned()), None);
        let mut compute = machine.spawn();
        compute.wait_for_log("(attempt 1/11)").await;
        assert!(TcpListener::bind(("127.0.0.1", machine.port)).is_err(), "reserved");
        assert!(TcpStream::connect(("127.0.0.1", machine.port)).is_err(), "closed");
        machine.bed.pageserver.clear_faults();
        compute.wait_for("running").await;
        compute.wait_for_log("the VM monitor is listening").await;
        machine.agent().await.is_served(2).await;
        machine.end(compute).await;
    })
    .await;
}
