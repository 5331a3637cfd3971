//! Deletions that Postgres refuses end the apply, and nothing is lost (05 §7.6, §7.9a, §10).

use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, delta, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

async fn refused(bed: &mut Bed, compute: &mut Compute, operation: Value) {
    bed.spec.member("delta_operations", json!([operation]));
    let error = compute.apply_fails(bed).await;
    let name = format!("drop database \\\"{}\\\"", operation["name"].as_str().unwrap());
    for part in [&name, "SQLSTATE 55006"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    let gone = "SELECT count(*) FROM pg_database WHERE datname IN ('closed', 'held', 'publisher')";
    assert_eq!(compute.sql_text(gone).await, "3");
    compute.refresh().await;
    compute.wait_for_any(&["running"]).await;
}

#[tokio::test]
async fn databases() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.allow_holding();
        bed.spec.typed("wal_level", "logical", "enum");
        let mut compute = running_for_catalog(&mut bed).await;
        for name in ["closed", "held", "publisher"] {
            compute.run(&format!("CREATE DATABASE {name}")).await;
        }
        // No session can connect to drop the subscription.
        let subscription = "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 dbname=x' \
            PUBLICATION p WITH (connect = false, slot_name = NONE)";
        compute.run_in("closed", subscription).await;
        compute.run("ALTER DATABASE closed ALLOW_CONNECTIONS false").await;
        refused(&mut bed, &mut compute, delta("delete_db", "closed")).await;
        let warning = "subscriptions of database \"closed\" cannot be dropped";
        compute.assert_logged(warning, 1).await;
        assert_eq!(compute.sql_text("SELECT subname FROM pg_subscription").await, "s");

        compute.hold_in("held", "CREATE TABLE t ()").await;
        refused(&mut bed, &mut compute, delta("delete_db", "held")).await;
        compute.release_in("held").await;

        compute.run_in("publisher", "CREATE TABLE t (); CREATE PUBLICATION p FOR TABLE t").await;
        let slot = "SELECT pg_create_logical_replication_slot('used', 'pgoutput')";
        compute.rows_in("publisher", slot).await;
        let subscribe = format!(
            "CREATE TABLE t (); CREATE SUBSCRIPTION t CONNECTION \
             'host=127.0.0.1 port={} dbname=publisher user=cloud_admin' \
             PUBLICATION p WITH (create_slot = false, slot_name = 'used')",
            bed.port
        );
        compute.run(&subscribe).await;
        compute.wait_for_sql("SELECT active FROM pg_replication_slots", "t").await;
        refused(&mut bed, &mut compute, delta("delete_db", "publisher")).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A spec that gives a database to a role and deletes the role. The database goes to the superuser;
/// before 15 its schema `public` still belongs to the role, which keeps the role.
#[tokio::test]
async fn a_role_that_is_to_own_a_database() {
    on_every_server(|server| async {
        let major = server.major;
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).database("store", "ann");
        compute.apply(&bed).await;
        bed.spec.member("delta_operations", json!([delta("delete_role", "ann")]));
        let ann = "SELECT count(*) FROM pg_roles WHERE rolname = 'ann'";
        if major >= 15 {
            compute.apply(&bed).await;
            assert_eq!(compute.sql_text(ann).await, "0");
            let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'store'";
            assert_eq!(compute.sql_text(owner).await, "cloud_admin");
        } else {
            let error = compute.apply_fails(&bed).await;
            assert!(error.contains("drop role \\\"ann\\\"") && error.contains("2BP01"), "{error}");
            assert_eq!(compute.sql_text(ann).await, "1");
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// If an older superuser created it, dropping what the role owns would be possible.
#[tokio::test]
async fn the_role_of_our_own_sessions() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        bed.spec.member("delta_operations", json!([delta("delete_role", "cloud_admin")]));
        let error = compute.apply_fails(&bed).await;
        assert!(error.contains("the role of compute_ctl itself"), "{error}");
        let kept = "SELECT count(*) FROM pg_class WHERE relname = 'health_check'";
        assert_eq!(compute.sql_text(kept).await, "1");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
