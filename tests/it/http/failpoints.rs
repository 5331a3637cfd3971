//! `/failpoints` exists in testing builds only (03 §8.4).

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

#[cfg(not(feature = "testing"))]
#[tokio::test]
async fn a_release_has_none() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let points = json!([{"name": "compute-migration", "actions": "off"}]);
        assert_eq!(compute.post_internal("/failpoints", &points).await.0, 404);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_testing_build_takes_both_names() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let points = json!([
            {"name": "a", "actions": "1*return(x)->off"},
            {"name": "b", "action": "exit"}
        ]);
        let (code, body) = compute.post_internal("/failpoints", &points).await;
        assert_eq!((code.as_u16(), body), (200, json!("")));
        let bad = json!([{"name": "c", "actions": "off"}, {"name": "d", "actions": "explode"}]);
        let (code, body) = compute.post_internal("/failpoints", &bad).await;
        assert_eq!(code, 400);
        let error = body["error"].as_str().unwrap();
        assert!(error.starts_with("failed to configure failpoints: "), "{error}");
        assert_eq!(compute.post("/failpoints", Some(&points)).await.0, 404);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
