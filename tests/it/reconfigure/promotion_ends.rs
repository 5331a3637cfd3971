//! Whatever ends the compute ends its promotion, and no client is left waiting.

use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::process::Replica;
use crate::support::server::on_one_server;

fn given_up() -> serde_json::Value {
    json!({"status": "failed", "error": "promote sender dropped: the compute is ending"})
}

#[tokio::test]
async fn terminate() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        let asked = replica.begin_promotion("FFFFFFFF/0").await;
        // The compute was not a primary yet: the safekeepers belong to another compute.
        let (code, answer) = replica.compute.post("/terminate", None).await;
        assert_eq!((code.as_u16(), answer), (200, json!({"lsn": null})));
        assert_eq!(asked.await.unwrap(), (500, given_up()));
        let (code, answer) = replica.promote("0/0").await;
        let wrong = json!({"error": "invalid compute status: terminated"});
        assert_eq!((code.as_u16(), answer), (412, wrong));
        assert_eq!(replica.compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(replica.bed.wrapper.calls().unwrap(), []);
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}

#[tokio::test]
async fn postgres_dies() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        let asked = replica.begin_promotion("FFFFFFFF/0").await;
        kill(Pid::from_raw(replica.compute.postmaster()), Signal::SIGKILL).unwrap();
        // The promotion's session may notice the end before the process is reaped.
        let (code, answer) = asked.await.unwrap();
        assert_eq!((code, &answer["status"]), (500, &json!("failed")), "{answer}");
        assert_eq!(replica.compute.wait_exit().await.code(), Some(1));
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}

#[tokio::test]
async fn a_signal() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        let asked = replica.begin_promotion("FFFFFFFF/0").await;
        assert_eq!(replica.compute.stop(Signal::SIGTERM).await, 1);
        // The process may have ended before its answer arrived.
        if let Ok(answer) = asked.await {
            assert_eq!(answer, (500, given_up()));
        }
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}

/// A promoted compute ends as any primary does: the safekeepers must agree.
#[tokio::test]
async fn the_sync_of_the_new_primary_fails() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        let (code, answer) = replica.promote(&replica.flushed().await).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        replica.bed.wrapper.set_mode(SyncMode::Exit(7)).unwrap();
        let (code, answer) = replica.compute.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), answer), (200, json!({"lsn": null})));
        assert_eq!(replica.compute.wait_exit().await.code(), Some(1));
        assert_eq!(replica.bed.wrapper.calls().unwrap().len(), 1);
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}
