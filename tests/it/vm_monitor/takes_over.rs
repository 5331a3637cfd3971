//! A second agent (08 §2, case 18, W6, W8).

use serde_json::json;

use super::agent::{Agent, Gone};
use super::machine::{Machine, limit, shown, until_shown};
use crate::support::server::on_one_server;

#[tokio::test]
async fn the_newest_agent_is_served_and_finds_everything_as_it_was() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut first = machine.agent().await;
        first.grow(8192, 2).await;
        until_shown(&compute, "/cgroup/memory_bytes", &json!(300 << 20)).await;
        first.shrink_with_samples(8192, 4).await;
        let mut second = machine.agent().await;
        assert_eq!(first.gone().await, Gone::Dropped);
        compute.wait_for_log("is replaced by another connection").await;
        // Threshold, samples and cache are those of the first (W6).
        let (ok, status) = second.shrink(3072, 2).await;
        assert!(ok, "{status}");
        assert!(status.contains("threshold from 6878.2 MiB to 2526.2 MiB"), "{status}");
        let mut third = machine.agent().await;
        assert_eq!(second.gone().await, Gone::Dropped);
        third.is_served(2).await;
        assert_eq!(limit(&compute).await, "2229");
        // Each has its own ids and pause.
        machine.uses(2600);
        assert_eq!(third.hear().await, json!({"type": "UpscaleRequest", "id": 3}));
        let mut fourth = machine.agent().await;
        assert_eq!(fourth.hear().await, json!({"type": "UpscaleRequest", "id": 3}));
        fourth.socket.close(None).await.unwrap();
        assert_eq!(fourth.gone().await, Gone::Closed);
        until_shown(&compute, "/agent", &json!(null)).await;
        machine.end(compute).await;
    })
    .await;
}

/// An agent that says nothing further also takes the place, because the old one may be gone
/// without a trace.
#[tokio::test]
async fn many_at_once() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut old = machine.agent().await;
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(Agent::open(machine.port).await);
        }
        assert_eq!(old.gone().await, Gone::Dropped);
        machine.agent().await.is_served(2).await;
        for agent in &mut silent {
            assert_eq!(agent.gone().await, Gone::Dropped);
        }
        until_shown(&compute, "/agent", &json!(null)).await;
        assert!(shown(&compute).await["threshold_bytes"].is_u64());
        machine.end(compute).await;
    })
    .await;
}
