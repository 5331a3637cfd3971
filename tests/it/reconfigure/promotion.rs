//! A hot standby becomes the primary: afterwards the requested configuration is in force, and all
//! clients get the same outcome.

use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::network::{HttpStub, Reply};
use crate::support::process::{Replica, lsn_number};
use crate::support::server::{on_every_server, on_one_server};

fn assert_completed(answer: &Value) {
    assert_eq!(answer["status"], "completed", "{answer}");
    for member in ["lsn_wait_time_ms", "pg_promote_time_ms", "reconfigure_time_ms"] {
        assert!(answer[member].is_u64(), "{answer}");
    }
}

/// As a control plane does it: the old primary ends, and the replica must reach its LSN.
#[tokio::test]
async fn from_the_end_of_the_old_primary_to_the_end_of_the_new_one() {
    on_every_server(|server| async move {
        let old = Bed::new(server.clone()).await;
        let mut primary = old.start();
        primary.wait_for("running").await;
        primary.run("CREATE TABLE public.t AS SELECT 1 AS x").await;

        let storage = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        let mut bed = Bed::new(server).await;
        bed.prewarm_from(&storage).replicate_from(old.port);
        // The safekeepers are not asked: they take no part in a promotion.
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        let mut replica = bed.start();
        replica.wait_for("running").await;
        assert_eq!(replica.prewarm().await["status"], "skipped");
        primary.run("INSERT INTO public.t VALUES (2)").await;
        // From here on the replica is connected, and a server that ends first sends all its WAL to
        // connected replicas.
        replica.wait_for_sql("SELECT to_regclass('public.t')", "t").await;
        replica.wait_for_sql("SELECT sum(x) FROM public.t", "3").await;

        let flushed = primary.sql_text("SELECT pg_current_wal_flush_lsn()").await;
        old.wrapper.set_lsn(lsn_number(&flushed)).unwrap();
        let (code, answer) = primary.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), &answer["lsn"]), (200, &json!(flushed)));
        assert_eq!(primary.wait_exit().await.code(), Some(0));

        bed.be_primary();
        bed.spec.safekeeper_connstrings = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        bed.spec
            .typed("work_mem", "7MB", "integer")
            .member("safekeepers_generation", json!(3))
            .member("operation_uuid", json!("promotion-1"));
        let body = bed.promote_body(&flushed);
        let ((code, answer), second) = tokio::join!(
            replica.post("/promote", Some(&body)),
            replica.post("/promote", Some(&body))
        );
        assert_eq!(code.as_u16(), 200, "{answer}\n{}", replica.log());
        assert_completed(&answer);
        assert_eq!(second, (code, answer.clone()));
        // Later requests bring another spec, which is ignored.
        let late = replica.post("/promote", Some(&bed.promote_body("FFFFFFFF/0"))).await;
        assert_eq!(late, (code, answer));
        replica.assert_logged("received promote request", 1).await;
        for line in [
            r#"parameter "synchronous_standby_names" changed to "walproposer""#,
            r#"parameter "neon.safekeepers" changed to "g#3:127.0.0.1:1,127.0.0.1:2""#,
        ] {
            replica.wait_for_log(line).await;
        }

        assert_eq!(replica.sql_text("SELECT pg_is_in_recovery()").await, "f");
        assert_eq!(replica.sql_text("SELECT sum(x) FROM public.t").await, "3");
        replica.wait_for_sql("SHOW work_mem", "7MB").await;
        // Otherwise the write would never return.
        replica.wait_for_sql("SHOW synchronous_standby_names", "").await;
        replica.run("INSERT INTO public.t VALUES (3)").await;
        replica.wait_for_sql("SHOW neon.safekeepers", "g#3:127.0.0.1:1,127.0.0.1:2").await;
        assert!(bed.pgdata_text("postgresql.conf").contains("neon.compute_mode=primary"));
        let status = replica.get("/status").await.1;
        assert_eq!(status["status"], "running");
        assert_eq!(status["extra"]["applied_operation"], "promotion-1");
        assert!(status["extra"]["phases"].is_null(), "{status}");

        // No `ALTER SYSTEM` setting overrides the file: the next configuration takes effect.
        let auto = bed.pgdata_text("postgresql.auto.conf");
        assert!(!auto.contains("neon.safekeepers") && !auto.contains("synchronous"), "{auto}");
        bed.spec.safekeeper_connstrings.pop();
        replica.apply(&bed).await;
        replica.wait_for_sql("SHOW neon.safekeepers", "g#3:127.0.0.1:1").await;

        // The compute ends as a primary does.
        assert_eq!(bed.safekeepers[0].journal().connections(), 0);
        assert_eq!(bed.wrapper.calls().unwrap(), []);
        bed.wrapper.set_lsn(0x300_0028).unwrap();
        let (code, answer) = replica.post("/terminate?mode=immediate", None).await;
        assert_eq!((code.as_u16(), answer), (200, json!({"lsn": "0/3000028"})));
        assert_eq!(bed.wrapper.calls().unwrap().len(), 1);
        assert_eq!(replica.wait_exit().await.code(), Some(0));
        assert_nothing_left(&bed);
        assert_nothing_left(&old);
    })
    .await;
}

/// Roles and databases of the new spec, on a server without a synchronous standby.
#[tokio::test]
async fn with_catalog_updates() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        replica.bed.spec.skip_pg_catalog_updates = false;
        replica.bed.spec.role("ann", None).database("store", "ann");
        let (code, answer) = replica.promote(&replica.flushed().await).await;
        assert_eq!(code.as_u16(), 200, "{answer}\n{}", replica.compute.log());
        assert_completed(&answer);
        let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'store'";
        assert_eq!(replica.compute.sql_text(owner).await, "ann");
        assert_eq!(replica.bed.pgdata_text("compute_ctl_temp_override.conf"), "");
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

/// Other requests wait for their turn, and their configuration is in force at the end.
#[tokio::test]
async fn a_client_that_hangs_up_and_requests_that_come_during_it() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        let lsn = replica.ahead().await;
        let client = replica.begin_promotion(&lsn).await;
        client.abort();
        let follower = replica.begin_promotion("FFFFFFFF/0").await;

        replica
            .bed
            .spec
            .typed("work_mem", "9MB", "integer")
            .member("operation_uuid", json!("later"));
        let body = replica.bed.configure_body();
        let (http, url) = (replica.compute.http.clone(), replica.compute.external.clone());
        let configure = tokio::spawn(async move {
            let request = http.post(format!("{url}/configure")).body(body.to_string());
            request.header("content-type", "application/json").send().await.unwrap()
        });
        replica.compute.wait_for("configuration_pending").await;
        assert_eq!(replica.compute.sql_text("SELECT pg_is_in_recovery()").await, "t");

        replica.write().await;
        let (code, answer) = follower.await.unwrap();
        assert_eq!(code, 200, "{answer}");
        assert_completed(&answer);
        let configured = configure.await.unwrap();
        assert_eq!(configured.status().as_u16(), 200, "{}", replica.compute.log());
        let status: Value = configured.json().await.unwrap();
        assert_eq!(status["extra"]["applied_operation"], "later");
        replica.compute.wait_for_sql("SHOW work_mem", "9MB").await;
        assert_eq!(replica.compute.sql_text("SELECT count(*) FROM public.after").await, "5000");
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

/// The file that the compute was started with still describes a replica.
#[tokio::test]
async fn a_refresh_does_not_undo_it() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        // The request comes during the promotion, and is served after it.
        let promoted = replica.begin_promotion(&replica.ahead().await).await;
        replica.compute.refresh().await;
        replica.write().await;
        assert_eq!(promoted.await.unwrap().0, 200);
        replica.compute.wait_for_log("the configuration is from before the promotion").await;
        replica.compute.wait_for("running").await;
        replica.assert_promoted().await;
        let (_, answer) = replica.compute.post("/terminate?mode=immediate", None).await;
        assert!(answer["lsn"].is_string(), "{answer}");
        assert_eq!(replica.compute.wait_exit().await.code(), Some(0));
        replica.primary.stop().await;
        assert_nothing_left(&replica.bed);
    })
    .await;
}

/// Also while a refresh keeps failing: its pauses are long.
#[tokio::test]
async fn between_two_tries_of_a_refresh() {
    on_one_server(|server| async {
        let mut replica = Replica::prewarmed(server).await;
        replica.bed.write_text("config.json", "no JSON");
        replica.compute.refresh().await;
        replica.compute.wait_for_log("could not refresh the configuration").await;
        let (code, answer) = replica.promote(&replica.flushed().await).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        // The next attempt finds the spec of the primary.
        replica.bed.write("config.json", &replica.bed.spec.config());
        replica.compute.refresh().await;
        replica.compute.wait_for("running").await;
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

/// Another client was faster, or an earlier attempt was abandoned too early.
#[tokio::test]
async fn a_server_that_has_left_recovery_already() {
    on_one_server(|server| async {
        let replica = Replica::prewarmed(server).await;
        replica.compute.run("SELECT pg_promote()").await;
        let (code, answer) = replica.promote(&replica.flushed().await).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        assert_completed(&answer);
        replica.compute.assert_logged("received promote request", 1).await;
        replica.assert_promoted().await;
        replica.end().await;
    })
    .await;
}

/// Control planes on one machine give each endpoint its port in the base text (04 §2.3).
#[tokio::test]
async fn the_port_of_the_replica_stays() {
    on_one_server(|server| async {
        let primary = crate::support::server::Vanilla::start(&server, &["autovacuum=off"]).await;
        let storage = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        let mut bed = Bed::new(server).await;
        bed.prewarm_from(&storage).replicate_from(primary.port);
        bed.spec.settings.shift_remove("port");
        let cluster = |bed: &Bed, port: u16| {
            let mut cluster = bed.spec.spec()["cluster"].clone();
            cluster["postgresql_conf"] = json!(format!("port={port}\n"));
            cluster
        };
        let of_replica = cluster(&bed, bed.port);
        bed.spec.member("cluster", of_replica);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.prewarm().await;
        bed.be_primary();
        bed.spec.extra.shift_remove("cluster");
        let of_primary = cluster(&bed, primary.port);
        bed.spec.member("cluster", of_primary);
        let (code, answer) = compute.post("/promote", Some(&bed.promote_body("0/0"))).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        let wanted = bed.port.to_string();
        until("the file has the port", || async {
            let query =
                "SELECT setting FROM pg_file_settings WHERE name = 'port' ORDER BY seqno DESC";
            compute.sql_text(query).await == wanted
        })
        .await;
        assert!(!compute.log().contains(r#"parameter "port" cannot be changed"#));
        compute.end().await;
        primary.stop().await;
        assert_nothing_left(&bed);
    })
    .await;
}
