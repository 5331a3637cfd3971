//! Promotions that fail: the compute stays a replica, and can be asked again.

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::{HttpStub, Reply};
use crate::support::process::Replica;
use crate::support::server::on_one_server;

fn failed(error: &str) -> serde_json::Value {
    json!({"status": "failed", "error": error})
}

#[tokio::test]
async fn a_replica_that_is_too_far_behind() {
    on_one_server(|server| async {
        let replica = Replica::prewarmed(server).await;
        let lsn = replica.ahead().await;
        let began = std::time::Instant::now();
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!(code.as_u16(), 500, "{answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with("didn't catch up with primary in 20 retries"), "{error}");
        assert!(error.ends_with(&format!("wanted {lsn}")), "{error}");
        assert!(began.elapsed().as_secs() >= 19);
        replica.assert_usable().await;
        let status = replica.compute.get("/status").await.1;
        assert_eq!(status["extra"]["last_failure"]["phase"], "wait_for_wal", "{status}");

        replica.write().await;
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("completed")), "{answer}");
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

#[tokio::test]
async fn preconditions() {
    on_one_server(|server| async move {
        // Without a spec.
        let bed = Bed::new(server.clone()).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let body = bed.promote_body("0/0");
        let (code, answer) = compute.post("/promote", Some(&body)).await;
        let wrong = json!({"error": "invalid compute status: empty"});
        assert_eq!((code.as_u16(), answer), (412, wrong));

        // Not a replica.
        compute.apply(&bed).await;
        let not_a_replica = failed("compute mode \"primary\" is not replica");
        for _ in 0..2 {
            let (code, answer) = compute.post("/promote", Some(&body)).await;
            assert_eq!((code.as_u16(), &answer), (500, &not_a_replica));
        }
        assert_eq!(compute.get("/status").await.1["status"], "running");
        bed.wrapper.clear_journal().unwrap();
        compute.end().await;
        assert_nothing_left(&bed);

        // A prewarm must have ended; whether it failed does not matter.
        let replica = Replica::start(server).await;
        let lsn = replica.flushed().await;
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!((code.as_u16(), answer), (500, failed("compute NotPrewarmed")));
        replica.storage.reply(Reply::Answer(500, Vec::new()).held());
        assert_eq!(replica.compute.post("/lfc/prewarm", None).await.0.as_u16(), 202);
        replica.storage.wait_for(1).await;
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!((code.as_u16(), answer), (500, failed("compute Prewarming")));
        replica.storage.release();
        assert_eq!(replica.compute.prewarm_outcome().await["status"], "failed");
        replica.assert_usable().await;
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        replica.compute.wait_for_log("promoting a replica whose prewarm has failed").await;
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

#[tokio::test]
async fn bodies_and_specs_that_are_refused() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        let lsn = replica.flushed().await;
        let good = replica.bed.promote_body(&lsn);
        let with = |path: &str, value: serde_json::Value| {
            let mut body = good.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            if value.is_null() {
                parent.remove(name);
            } else {
                parent.insert(name.to_owned(), value);
            }
            body
        };
        let setting = json!([{"name": "a b", "value": "1", "vartype": "string"}]);
        for (body, expected, text) in [
            (with("/wal_flush_lsn", json!(null)), 422, "missing field `wal_flush_lsn`"),
            (with("/wal_flush_lsn", json!("0")), 422, "wal_flush_lsn: LsnParseError"),
            (with("/spec", json!(null)), 422, "missing field `spec`"),
            (with("/spec/mode", json!("Replica")), 400, "must have the mode Primary"),
            (with("/spec/timeline_id", json!("0".repeat(32))), 400, "the tenant and the timeline"),
            (with("/spec/safekeeper_connstrings", json!(["a:1", "a:1"])), 400, "duplicate entry"),
            (with("/spec/cluster/settings", setting), 400, "is not the name of a setting"),
        ] {
            let (code, answer) = replica.compute.post("/promote", Some(&body)).await;
            assert_eq!(code.as_u16(), expected, "{answer}");
            assert!(answer["error"].as_str().unwrap().contains(text), "{text}: {answer}");
        }
        let text = replica.compute.http.post(format!("{}/promote", replica.compute.external));
        let no_json = text.header("content-type", "application/json").body("{");
        assert_eq!(no_json.send().await.unwrap().status().as_u16(), 400);

        // Postgres would refuse the spec; the check comes before any change.
        replica.bed.spec.set("work_mem", "much");
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!(code.as_u16(), 500, "{answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("Postgres refuses the new postgresql.conf"), "{error}");
        assert!(error.contains("work_mem"), "{error}");
        replica.assert_usable().await;

        replica.bed.spec.settings.shift_remove("work_mem");
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

/// Beyond the point of no return the compute is a primary, with the new configuration, and the
/// failure stays.
#[tokio::test]
async fn a_catalog_that_cannot_be_applied() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        replica.bed.spec.skip_pg_catalog_updates = false;
        replica.bed.spec.database("store", "nobody-at-all");
        let lsn = replica.flushed().await;
        let (code, answer) = replica.promote(&lsn).await;
        assert_eq!(code.as_u16(), 500, "{answer}");
        let error = answer["error"].as_str().unwrap();
        let head = "the server was promoted, and the reconfiguration failed in phase apply_catalog";
        assert!(error.starts_with(head), "{error}");
        assert_eq!(replica.promote(&lsn).await, (code, answer), "for good");
        replica.assert_promoted().await;
        let status = replica.compute.get("/status").await.1;
        assert_eq!(status["extra"]["last_failure"]["phase"], "apply_catalog", "{status}");
        assert_eq!(replica.bed.pgdata_text("compute_ctl_temp_override.conf"), "");

        // Another configuration repairs it.
        replica.bed.spec.databases.clear();
        replica.bed.spec.role("ann", None).database("store", "ann");
        replica.compute.apply(&replica.bed).await;
        replica.bed.wrapper.clear_journal().unwrap();
        let (code, answer) = replica.compute.post("/terminate?mode=immediate", None).await;
        assert!(code.as_u16() == 200 && answer["lsn"].is_string(), "{answer}");
        assert_eq!(replica.bed.wrapper.calls().unwrap().len(), 1);
        assert_eq!(replica.compute.wait_exit().await.code(), Some(0));
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}

/// The promotion neither asks the storage nor waits for it.
#[tokio::test]
async fn an_endpoint_storage_that_is_gone() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server.clone()).await;
        let storage = HttpStub::start(Reply::Reset).await;
        let primary = crate::support::server::Vanilla::start(&server, &["autovacuum=off"]).await;
        bed.prewarm_from(&storage).replicate_from(primary.port);
        bed.spec.member("autoprewarm", json!(true));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(compute.prewarm_outcome().await["status"], "failed");
        bed.be_primary();
        let (code, answer) = compute.post("/promote", Some(&bed.promote_body("0/0"))).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        compute.end().await;
        primary.stop().await;
        assert_nothing_left(&bed);
    })
    .await;
}
