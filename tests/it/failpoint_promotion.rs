//! A `pg_promote()` that gives no clear answer: what becomes of the server is noticed, and nothing
//! of the attempt is left. Only builds with failpoints can have that happen.

use compute_ctl::dev::servers::Server;
use serde_json::json;

use crate::support::{Replica, assert_nothing_left, on_every_server, on_one_server};

/// A replica whose promotion is said to have failed, and has not.
async fn promoted_after_all(server: Server) -> (Replica, String) {
    let points = "compute-promotion-unclear=1*return(0)->off";
    let replica = Replica::start_with_env(server, &[("FAILPOINTS", points)]).await;
    replica.compute.prewarm().await;
    let lsn = replica.flushed().await;
    let (code, answer) = replica.promote(&lsn).await;
    let failed = json!({"status": "failed", "error": "compute-promotion-unclear failpoint"});
    assert_eq!((code.as_u16(), answer), (500, failed));
    replica.compute.wait_for_sql("SELECT pg_is_in_recovery()", "f").await;
    // No commit may be acknowledged without safekeepers.
    assert_eq!(replica.compute.sql_text("SHOW synchronous_standby_names").await, "walproposer");
    (replica, lsn)
}

#[tokio::test]
async fn asked_again_it_is_completed() {
    on_every_server(|server| async {
        let (replica, lsn) = promoted_after_all(server).await;
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("completed")), "{answer}");
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_configuration_finds_the_primary() {
    on_one_server(|server| async {
        let (mut replica, _) = promoted_after_all(server).await;
        let primary = replica.bed.spec.clone();
        replica.bed.replicate_from(replica.primary.port);
        let body = replica.bed.configure_body();
        let (code, answer) = replica.compute.post("/configure", Some(&body)).await;
        let error = answer["error"].as_str().unwrap();
        assert!(code.as_u16() == 500 && error.contains("this replica was promoted"), "{answer}");

        // The source still has the spec of the replica; what was promoted to is put in force.
        replica.compute.refresh().await;
        replica.compute.wait_for("running").await;
        replica.bed.spec = primary;
        replica.assert_promoted().await;
        let (code, answer) = replica.compute.post("/terminate?mode=immediate", None).await;
        assert!(code.as_u16() == 200 && answer["lsn"].is_string(), "{answer}");
        assert_eq!(replica.compute.wait_exit().await.code(), Some(0));
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}

#[tokio::test]
async fn the_end_is_that_of_a_primary() {
    on_one_server(|server| async {
        let (mut replica, lsn) = promoted_after_all(server).await;
        // Another attempt that comes to nothing does not make anybody forget this one.
        replica.bed.spec.set("work_mem", "much");
        let (code, answer) = replica.promote(&lsn).await;
        let error = answer["error"].as_str().unwrap();
        assert!(code.as_u16() == 500 && error.contains("work_mem"), "{answer}");
        let (code, answer) = replica.compute.post("/terminate?mode=immediate", None).await;
        assert!(code.as_u16() == 200 && answer["lsn"].is_string(), "{answer}");
        assert_eq!(replica.compute.wait_exit().await.code(), Some(0));
        assert_eq!(replica.bed.wrapper.calls().unwrap().len(), 1);
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}
