//! How many sessions an apply has, and what it does when the server has none left (05 §21 no. 28
//! to 30).

use serde_json::json;

use crate::support::{
    Bed, Compute, assert_nothing_left, on_every_server, on_one_server, running_for_catalog, until,
};

const SESSIONS: &str = "SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') \
    FROM pg_stat_activity WHERE application_name = 'compute_ctl:apply_config'";

async fn with_databases(bed: &mut Bed, count: usize) -> Compute {
    let compute = running_for_catalog(bed).await;
    bed.spec.role("ann", None);
    for n in 0..count {
        bed.spec.database(&format!("d{n}"), "ann");
    }
    compute.apply(bed).await;
    compute
}

/// As many databases at a time as the spec says, and the main session.
#[tokio::test]
async fn a_reconfiguration_has_as_many_sessions_as_the_spec_says() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = with_databases(&mut bed, 6).await;
        for (concurrency, sessions) in [(json!(3), "4|3"), (json!(1), "2|1"), (json!(0), "2|1")] {
            let mut locks = Vec::new();
            for n in 0..6 {
                let session = compute.session_in(&format!("d{n}")).await;
                let lock = "BEGIN; LOCK TABLE pg_catalog.pg_default_acl IN ACCESS EXCLUSIVE MODE";
                session.batch_execute(lock).await.unwrap();
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
        assert_eq!(compute.count_in_log("Applying config with max 10 concurrency"), 1);
        assert_eq!(compute.count_in_log("too many clients"), 0, "{}", compute.log());
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Users have taken all connections that there are for them, and most of the others.
#[tokio::test]
async fn a_full_server_is_worked_on_with_fewer_sessions() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("max_connections", "14", "integer").typed("max_wal_senders", "2", "integer");
        let mut compute = with_databases(&mut bed, 8).await;
        bed.spec.member("reconfigure_concurrency", json!(8));
        let mut users = Vec::new();
        while users.len() < 12 {
            users.push(compute.session_in("postgres").await);
        }
        compute.apply_changes_nothing(&bed).await;
        assert!(compute.count_in_log("too many clients") > 0, "{}", compute.log());

        // None at all for a while.
        for _ in 0..2 {
            users.push(compute.session_in("postgres").await);
        }
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

async fn compute_waits(compute: &Compute) {
    let waits = || async { compute.count_in_log("has no connection left, trying again") > 0 };
    until("the apply waits for a connection", waits).await;
}
