//! Faults injected into prewarm and promotion (07 §15). Builds without the feature `testing` have
//! none, and ignore the variable.

use serde_json::json;

use crate::support::{Replica, on_every_server};

#[tokio::test]
async fn failpoints_fail_prewarm_and_promotion() {
    on_every_server(|server| async {
        let points = "compute-promotion=return(0);compute-prewarm=1*return(0)->off";
        let mut replica = Replica::start_with_env(server, &[("FAILPOINTS", points)]).await;
        let state = replica.compute.prewarm().await;
        let lsn = replica.flushed().await;
        let (code, answer) = replica.promote(&lsn).await;
        if cfg!(feature = "testing") {
            let failed = |error: &str| json!({"status": "failed", "error": error});
            assert_eq!(state, failed("compute-prewarm failpoint"));
            assert_eq!(replica.compute.prewarm().await, json!({"status": "skipped"}));
            assert_eq!((code.as_u16(), answer), (500, failed("compute-promotion failpoint")));
            // It was at the point of no return, and went back.
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
