//! Computes that only read have a cache too.

use serde_json::json;

use super::machine::{Machine, limit};
use crate::support::server::on_one_server;

#[tokio::test]
async fn a_replica_and_a_static_compute() {
    on_one_server(|server| async move {
        for mode in [json!("Replica"), json!({"Static": "0/1F30EC8"})] {
            let mut machine = Machine::new(server.clone()).await;
            machine.bed.spec.mode = mode;
            let compute = machine.start().await;
            let mut agent = machine.agent().await;
            agent.grow(4096, 2).await;
            assert_eq!(limit(&compute).await, "2997");
            let (ok, status) = agent.shrink_with_samples(1024, 4).await;
            assert!(ok, "{status}");
            assert_eq!(limit(&compute).await, "607");
            machine.end(compute).await;
        }
    })
    .await;
}

/// A later spec changes neither the flags of the monitor nor its session (08 §1).
#[tokio::test]
async fn a_reconfiguration_leaves_it_alone() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.grow(4096, 2).await;
        machine.bed.spec.member("disable_lfc_resizing", json!(true)).set("work_mem", "8MB");
        let (code, answer) = compute.configure(&machine.bed).await;
        assert_eq!(code, 200, "{answer}");
        assert_eq!(limit(&compute).await, "2997", "what was set outranks the file");
        agent.grow(2148, 4).await;
        assert_eq!(limit(&compute).await, "1536");
        machine.end(compute).await;
    })
    .await;
}
