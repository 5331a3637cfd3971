//! How many sessions an apply opens, and how it behaves when the server has none left (05 §21 no.
//! 28 to 30).

use std::time::Instant;

use serde_json::json;
use tokio_postgres::NoTls;

use crate::support::assertions::{PATIENCE, assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, delta, running_for_catalog};
use crate::support::server::on_one_server;

const SESSIONS: &str = "SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') \
    FROM pg_stat_activity WHERE application_name = 'compute_ctl:apply_config'";

async fn with_databases(bed: &mut Bed, count: usize) -> Compute {
    let compute = running_for_catalog(bed).await;
    bed.spec.role("ann", None);
    for n in 0..count {
        bed.spec.database(&format!("d{n}"), "ann");
    }
    compute.apply(bed).await;
    for n in 0..count {
        // From outside this role cannot be distinguished from `public`, so every apply opens the
        // database.
        compute.run_in(&format!("d{n}"), "CREATE SCHEMA app AUTHORIZATION ann").await;
    }
    compute
}

/// At most as many databases at a time as the spec says, and the main session.
#[tokio::test]
async fn a_reconfiguration_has_as_many_sessions_as_the_spec_says() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = with_databases(&mut bed, 6).await;
        for (concurrency, sessions) in [(json!(3), "4|3"), (json!(1), "2|1"), (json!(0), "2|1")] {
            let mut locks = Vec::new();
            for n in 0..6 {
                let session = compute.session_in(&format!("d{n}")).await;
                session.batch_execute(LOCK).await.unwrap();
                locks.push(session);
            }
            bed.spec.member("reconfigure_concurrency", concurrency);
            let look_and_release = async {
                until("all sessions wait", || async { compute.rows(SESSIONS).await == [sessions] })
                    .await;
                drop(locks);
            };
            tokio::join!(compute.apply(&bed), look_and_release);
        }
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_limit_of_a_start_follows_max_connections() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        // More than the limit, which is more than there are connections.
        bed.spec.typed("max_connections", "11", "integer").typed("max_wal_senders", "2", "integer");
        bed.spec.typed("superuser_reserved_connections", "1", "integer").role("ann", None);
        for n in 0..15 {
            bed.spec.database(&format!("d{n}"), "ann");
        }
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.assert_logged("Applying config with max 10 concurrency", 1).await;
        assert_eq!(compute.count_in_log("too many clients"), 0, "{}", compute.log());
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Users hold all connections available to them and most of the reserved ones. The monitor holds
/// one, too.
#[tokio::test]
async fn a_full_server_is_worked_on_with_fewer_sessions() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("max_connections", "14", "integer").typed("max_wal_senders", "2", "integer");
        let mut compute = with_databases(&mut bed, 8).await;
        bed.spec.member("reconfigure_concurrency", json!(8));
        let mut users = Vec::new();
        take_connections(&compute, &mut users, 11).await;
        compute.apply_changes_nothing(&bed).await;
        compute.wait_for_log("too many clients").await;

        // None at all for a while.
        take_connections(&compute, &mut users, 13).await;
        let release = async {
            compute_waits(&compute).await;
            users.clear();
        };
        tokio::join!(compute.apply(&bed), release);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

const LOCK: &str = "BEGIN; LOCK TABLE pg_catalog.pg_default_acl IN ACCESS EXCLUSIVE MODE";

/// An error in one database ends the work in all others before the request is answered (05 weakness
/// 15).
#[tokio::test]
async fn a_failure_ends_what_the_others_do() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = with_databases(&mut bed, 4).await;
        // The grantor cannot reach the table any more, so its grant cannot be revoked.
        compute.run("CREATE ROLE g; CREATE ROLE grantor").await;
        let out_of_reach = "CREATE SCHEMA hidden; CREATE TABLE hidden.t (); \
            GRANT USAGE ON SCHEMA hidden TO grantor; \
            GRANT SELECT ON hidden.t TO grantor WITH GRANT OPTION; \
            SET ROLE grantor; GRANT SELECT ON hidden.t TO g; RESET ROLE; \
            REVOKE USAGE ON SCHEMA hidden FROM grantor";
        compute.run_in("d0", out_of_reach).await;
        let defaults = "SELECT count(*) FROM pg_default_acl";
        let mut locks = Vec::new();
        for database in ["d1", "d2", "d3"] {
            compute.run_in(database, "DROP OWNED BY neon_superuser").await;
            assert_eq!(compute.rows_in(database, defaults).await, ["0"]);
            let session = compute.session_in(database).await;
            session.batch_execute(LOCK).await.unwrap();
            locks.push(session);
        }
        bed.spec.member("reconfigure_concurrency", json!(4));
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        // The locks are still held.
        let error = compute.apply_fails(&bed).await;
        for part in ["could not revoke what others granted to role", "in database \\\"d0\\\""] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        let none_left = || async { compute.rows(SESSIONS).await == ["0|0"] };
        until("no session of the apply is left", none_left).await;
        drop(locks);
        for database in ["d1", "d2", "d3"] {
            assert_eq!(compute.rows_in(database, defaults).await, ["0"], "changed afterwards");
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A user drops a listed database after the compute read it and before its turn.
#[tokio::test]
async fn a_database_that_vanishes_is_not_an_error() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = with_databases(&mut bed, 2).await;
        let lock = compute.session_in("d0").await;
        lock.batch_execute(LOCK).await.unwrap();
        let drop_and_release = async {
            let waits = || async { compute.rows(SESSIONS).await == ["2|1"] };
            until("the apply waits in the first database", waits).await;
            compute.run("DROP DATABASE d1").await;
            drop(lock);
        };
        tokio::join!(compute.apply(&bed), drop_and_release);
        compute.wait_for_log("database \"d1\" was dropped during the apply").await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Sessions that have just ended may count for a moment longer.
async fn take_connections(
    compute: &Compute,
    users: &mut Vec<tokio_postgres::Client>,
    count: usize,
) {
    let deadline = Instant::now() + PATIENCE;
    while users.len() < count {
        match tokio_postgres::connect(&compute.connstr, NoTls).await {
            Ok((user, connection)) => {
                tokio::spawn(connection);
                users.push(user);
            }
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
    }
}

async fn compute_waits(compute: &Compute) {
    let waits = || async { compute.count_in_log("has no connection left, trying again") > 0 };
    until("the apply waits for a connection", waits).await;
}
