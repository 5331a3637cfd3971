//! Faults injected into prewarm and promotion (07 §15). Builds without the feature `testing` have
//! no faults, and ignore the variable.

use serde_json::json;

use crate::support::process::Replica;
use crate::support::server::on_every_server;

#[tokio::test]
async fn failpoints_fail_prewarm_and_promotion() {
    on_every_server(|server| async {
        let points = "compute-promotion=return(0);compute-prewarm=1*return(0)->off";
        let replica = Replica::start_with_env(server, &[("FAILPOINTS", points)]).await;
        let state = replica.compute.prewarm().await;
        let lsn = replica.flushed().await;
        let (code, answer) = replica.promote(&lsn).await;
        if cfg!(feature = "testing") {
            let failed = |error: &str| json!({"status": "failed", "error": error});
            assert_eq!(state, failed("compute-prewarm failpoint"));
            assert_eq!(replica.compute.prewarm().await, json!({"status": "skipped"}));
            assert_eq!((code.as_u16(), answer), (500, failed("compute-promotion failpoint")));
            // The attempt had reached the point of no return, and was undone.
            let set = r#"parameter "synchronous_standby_names" changed to "walproposer""#;
            replica.compute.wait_for_log(set).await;
            replica.assert_usable().await;
            let off = json!([{"name": "compute-promotion", "actions": "off"}]);
            assert_eq!(replica.compute.post_internal("/failpoints", &off).await.0.as_u16(), 200);
            let (code, answer) = replica.promote(&lsn).await;
            assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("completed")), "{answer}");
        } else {
            assert_eq!(state, json!({"status": "skipped"}));
            assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("completed")), "{answer}");
        }
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

/// A `pg_promote()` without a clear answer: the compute notices what became of the server, and no
/// trace of the attempt remains.
#[cfg(feature = "testing")]
mod unclear {
    use compute_ctl::dev::servers::Server;
    use serde_json::json;

    use crate::support::assertions::assert_nothing_left;
    use crate::support::process::Replica;
    use crate::support::server::on_one_server;

    /// A replica whose promotion was reported as failed although it succeeded.
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

    /// The end of a primary: with an LSN of its final sync, and exit code 0.
    async fn end_as_primary(mut replica: Replica) {
        let (code, answer) = replica.compute.post("/terminate?mode=immediate", None).await;
        assert!(code.as_u16() == 200 && answer["lsn"].is_string(), "{answer}");
        assert_eq!(replica.compute.wait_exit().await.code(), Some(0));
        assert_eq!(replica.bed.wrapper.calls().unwrap().len(), 1);
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    }

    #[tokio::test]
    async fn asked_again_it_is_completed() {
        on_one_server(|server| async {
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
            assert!(
                code.as_u16() == 400 && error.contains("this replica was promoted"),
                "{answer}"
            );

            // The source still has the spec of the replica; the spec of the promotion is put in
            // force.
            replica.compute.refresh().await;
            replica.compute.wait_for("running").await;
            replica.bed.spec = primary;
            replica.assert_promoted().await;
            end_as_primary(replica).await;
        })
        .await;
    }

    #[tokio::test]
    async fn the_end_is_that_of_a_primary() {
        on_one_server(|server| async {
            let (mut replica, lsn) = promoted_after_all(server).await;
            // Another attempt that fails must not replace the state of this one.
            replica.bed.spec.set("work_mem", "much");
            let (code, answer) = replica.promote(&lsn).await;
            let error = answer["error"].as_str().unwrap();
            assert!(code.as_u16() == 500 && error.contains("work_mem"), "{answer}");
            end_as_primary(replica).await;
        })
        .await;
    }
}
