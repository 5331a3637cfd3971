//! Logical replication subscriptions: of databases that are deleted, and those that a timeline
//! inherited (05 §21 no. 22 and 23).

use serde_json::json;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, delta, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

/// A subscription that has a slot and no worker.
async fn subscribe(compute: &Compute, database: &str, name: &str) {
    let sql = format!(
        "CREATE SUBSCRIPTION \"{name}\" CONNECTION 'host=127.0.0.1 port=1 dbname=nowhere' \
         PUBLICATION p WITH (connect = false, slot_name = '{}', enabled = false)",
        name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_lowercase()
    );
    compute.run_in(database, &sql).await;
}

const SUBSCRIPTIONS: &str = "SELECT d.datname, s.subname FROM pg_subscription s \
    JOIN pg_database d ON d.oid = s.subdbid ORDER BY 1, 2";

#[tokio::test]
async fn a_deleted_database_takes_its_subscriptions_along() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("wal_level", "logical", "enum");
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).database("publisher", "ann").database("subscriber", "ann");
        compute.apply(&bed).await;
        let connection =
            format!("host=127.0.0.1 port={} dbname=publisher user=cloud_admin", bed.port);
        compute.run_in("publisher", "CREATE TABLE t (); CREATE PUBLICATION p FOR TABLE t").await;
        let slot = "SELECT pg_create_logical_replication_slot('kept', 'pgoutput')";
        compute.rows_in("publisher", slot).await;
        compute
            .run_in(
                "subscriber",
                &format!(
                    "CREATE TABLE t (); CREATE SUBSCRIPTION \"s'u\"\"b\" CONNECTION '{connection}' \
                     PUBLICATION p WITH (create_slot = false, slot_name = 'kept')"
                ),
            )
            .await;
        // While a table is copied, the publisher waits for every older transaction. If both are one
        // server, it also waits for the transaction that drops the subscription.
        until("the table is in sync", || async {
            let ready = "SELECT 1 FROM pg_subscription_rel WHERE srsubstate = 'r'";
            !compute.rows_in("subscriber", ready).await.is_empty()
        })
        .await;
        bed.spec.databases.truncate(1);
        bed.spec.member("delta_operations", json!([delta("delete_db", "subscriber")]));
        compute.apply(&bed).await;
        assert!(compute.rows(SUBSCRIPTIONS).await.is_empty());
        let gone = "SELECT 1 FROM pg_database WHERE datname = 'subscriber'";
        assert!(compute.rows(gone).await.is_empty());
        compute.wait_for_sql("SELECT active FROM pg_replication_slots", "f").await;
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn inherited_subscriptions_are_dropped_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let timeline = bed.spec.timeline_id.clone();
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).member("reconfigure_concurrency", json!(3));
        for n in 0..3 {
            bed.spec.database(&format!("d{n}"), "ann");
        }
        compute.apply(&bed).await;
        compute.run("CREATE DATABASE unlisted").await;
        for database in ["d0", "d1", "d2", "unlisted", "postgres"] {
            subscribe(&compute, database, &format!("from the 'parent' of {database}")).await;
        }
        subscribe(&compute, "d0", "another").await;
        bed.spec.member("drop_subscriptions_before_start", json!(true));
        compute.apply(&bed).await;
        assert!(compute.rows(SUBSCRIPTIONS).await.is_empty());
        let marker = "SELECT id, timeline_id FROM neon.drop_subscriptions_done";
        assert_eq!(compute.rows(marker).await, [format!("1|{timeline}")]);
        let line = "neon.disable_logical_replication_subscribers=false";
        assert_eq!(bed.pgdata_text("postgresql.conf").lines().last(), Some(line));

        // A subscription that a user creates stays.
        subscribe(&compute, "d1", "mine").await;
        compute.apply_changes_nothing(&bed).await;
        assert_eq!(compute.rows(SUBSCRIPTIONS).await, ["d1|mine"]);

        // On a branch of this branch they are inherited.
        compute.run("UPDATE neon.drop_subscriptions_done SET timeline_id = 'parent'").await;
        compute.apply(&bed).await;
        assert!(compute.rows(SUBSCRIPTIONS).await.is_empty());
        assert_eq!(compute.rows(marker).await, [format!("1|{timeline}")]);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The run ends between dropping and marking; users continue to work.
#[tokio::test]
async fn an_interrupted_run_is_finished_and_drops_nothing_new() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let timeline = bed.spec.timeline_id.clone();
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).database("d", "ann");
        compute.apply(&bed).await;
        subscribe(&compute, "d", "inherited").await;
        // Dropping the role fails; this step comes after the subscriptions and before the mark.
        compute.run("CREATE ROLE stuck").await;
        compute.run("CREATE DATABASE elsewhere").await;
        compute.run_in("elsewhere", "CREATE TABLE t (); ALTER TABLE t OWNER TO stuck").await;
        bed.spec.member("drop_subscriptions_before_start", json!(true));
        bed.spec.member("delta_operations", json!([delta("delete_role", "stuck")]));
        compute.apply_fails(&bed).await;
        assert!(compute.rows(SUBSCRIPTIONS).await.is_empty());
        let marked = "SELECT to_regclass('neon.drop_subscriptions_done') IS NOT NULL";
        assert_eq!(compute.rows(marked).await, ["f"]);
        subscribe(&compute, "d", "mine").await;

        compute.run_in("elsewhere", "DROP TABLE t").await;
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        compute.wait_for_any(&["running"]).await;
        assert_eq!(compute.rows(SUBSCRIPTIONS).await, ["d|mine"]);
        let marker = "SELECT id, timeline_id FROM neon.drop_subscriptions_done";
        assert_eq!(compute.rows(marker).await, [format!("1|{timeline}")]);
        let todo = "SELECT to_regclass('neon.drop_subscriptions_todo') IS NULL";
        assert_eq!(compute.rows(todo).await, ["t"]);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
