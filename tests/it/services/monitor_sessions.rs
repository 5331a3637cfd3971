//! `last_active` from the sessions of users (07 §1.2 steps 1 and 2), with its reason.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use compute_ctl::services::monitor::{COMPUTE_MONITOR, Monitor, MonitorLimits, Seen};
use compute_ctl::sql::{Session, SessionDeadlines, session_config};
use compute_ctl::telemetry::metrics::Metrics;
use serde_json::json;
use tokio_postgres::NoTls;

use crate::support::assertions::{PATIENCE, assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{Vanilla, on_one_server, pg_version};

async fn running(bed: &Bed) -> Compute {
    let mut compute = bed.start();
    compute.wait_for("running").await;
    compute.run("CREATE ROLE app LOGIN").await;
    compute.run("CREATE DATABASE appdb OWNER app").await;
    compute
}

/// The time at which the session of `app` entered its current state.
async fn state_change(compute: &Compute) -> DateTime<Utc> {
    let query = "SELECT (EXTRACT(epoch FROM state_change) * 1000000)::int8 \
                 FROM pg_stat_activity WHERE usename = 'app'";
    DateTime::from_timestamp_micros(compute.sql_text(query).await.parse().unwrap()).unwrap()
}

#[tokio::test]
async fn users_are_active_and_we_are_not() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        // A time zone far from UTC.
        bed.without_autovacuum().spec.set("TimeZone", "Asia/Tokyo");
        let mut compute = running(&bed).await;
        compute.wait_for_log("starting compute monitor for 127.0.0.1:").await;
        assert_eq!(compute.stays_inactive().await, None);

        let app = compute.session_of("app", "appdb").await;
        app.batch_execute("SELECT 1").await.unwrap();
        let idle_since = state_change(&compute).await;
        until("it is noticed", || async { compute.last_active().await == Some(idle_since) }).await;
        assert_eq!(compute.stays_inactive().await, Some(idle_since));
        assert_eq!(compute.reason("idle_sessions").await, Some(1));

        app.batch_execute("BEGIN").await.unwrap();
        compute.wait_for_reason("idle_in_transaction", 1).await;
        compute.wait_until_active().await;
        assert!(compute.last_active().await.unwrap() < Utc::now() + TimeDelta::seconds(1));
        app.batch_execute("ROLLBACK").await.unwrap();
        compute.wait_for_reason("idle_in_transaction", 0).await;

        let long = app.batch_execute("SELECT pg_sleep(600)");
        let seen = async {
            compute.wait_for_reason("active_sessions", 1).await;
            compute.wait_until_active().await;
        };
        tokio::select! {
            done = long => panic!("{done:?}"),
            () = seen => {}
        }
        compute
            .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await;
        drop(app);
        compute.wait_for_reason("active_sessions", 0).await;
        compute.stays_inactive().await;
        assert_eq!(compute.reason("idle_sessions").await, Some(0));
        assert_eq!(compute.metric("compute_pg_downtime_ms_total").await, 0);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Sessions of the compute are recognised by login and name together: another login in `--connstr`
/// does not count as a user, and a user cannot hide behind the name.
#[tokio::test]
async fn our_own_sessions_under_another_login() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &["autovacuum=off"]).await;
        let roles = "CREATE ROLE member LOGIN IN ROLE cloud_admin; CREATE ROLE app LOGIN";
        vanilla.client.batch_execute(roles).await.unwrap();
        let version = pg_version(&server);
        let url = |user| vanilla.url().replace("cloud_admin", user);
        let config = |name| session_config(&url("member"), name, version).unwrap();
        let deadlines = SessionDeadlines { connect: PATIENCE, statement: PATIENCE, lock: PATIENCE };
        let ours = Session::connect(&config("compute_ctl:x"), deadlines).await.unwrap();
        ours.query("SELECT 1").await.unwrap();

        let (looks, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let limits = MonitorLimits { pause: Duration::from_millis(10), ..MonitorLimits::default() };
        let metrics = Metrics::new().unwrap();
        let monitor = Monitor::new(config(COMPUTE_MONITOR), limits, false, metrics);
        let publish = move |seen: Seen<'_>| match seen {
            Seen::Active { last_active, .. } => looks.send(last_active).unwrap(),
            other => panic!("{other:?}"),
        };
        let monitor = tokio::spawn(async move { match monitor.run(publish, || false).await {} });
        let mut last = None;
        for (user, name) in [("app", "compute_ctl:x"), ("member", "x")] {
            for _ in 0..5 {
                assert_eq!(seen.recv().await.unwrap(), last, "before {user}");
            }
            let mut user: tokio_postgres::Config = url(user).parse().unwrap();
            let (client, connection) = user.application_name(name).connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("SELECT 1").await.unwrap();
            let noticed = async { while seen.recv().await.unwrap() == last {} };
            tokio::time::timeout(PATIENCE, noticed).await.expect(name);
            // The monitor may have looked before the statement.
            seen.recv().await.unwrap();
            last = seen.recv().await.unwrap();
        }
        monitor.abort();
        vanilla.stop().await;
    })
    .await;
}

/// With the feature, totals reveal sessions between two looks; the compute's own do not count.
#[tokio::test]
async fn short_sessions_are_noticed_by_the_totals() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        bed.spec.member("features", json!(["activity_monitor_experimental"]));
        let mut compute = running(&bed).await;
        compute.run_in("appdb", "CREATE SCHEMA auth").await;
        // The totals have settled; now a session of the compute.
        compute.wait_for_looks(6).await;
        let before = compute.stays_inactive().await;
        let grant = json!({
            "database": "appdb", "schema": "auth", "privileges": ["USAGE"], "role": "app"
        });
        let (code, body) = compute.post_internal("/grants", &grant).await;
        assert_eq!(code.as_u16(), 201, "{body}");
        compute.wait_for_looks(6).await;
        assert_eq!(compute.last_active().await, before);

        let after = Utc::now();
        until("short sessions are noticed", || async {
            let app = compute.session_of("app", "appdb").await;
            app.batch_execute("SELECT 1").await.unwrap();
            drop(app);
            compute.reason("statistics").await.is_some_and(|count| count > 0)
        })
        .await;
        assert!(compute.last_active().await.unwrap() > after - TimeDelta::seconds(1));
        assert_eq!(compute.metric("compute_pg_downtime_ms_total").await, 0);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// One message asks for everything (07 W3).
#[tokio::test]
async fn a_look_is_one_round_trip() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("log_statement", "all").set("log_line_prefix", "%a: ");
        bed.spec.member("features", json!(["activity_monitor_experimental"]));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_log_times("compute_ctl:compute_monitor: LOG:  ", 3).await;
        until("each message asks for everything", || async {
            let messages = compute.count_in_log("compute_ctl:compute_monitor: LOG:  statement: ");
            let parts = [
                "AS idle_since",
                "AS walsenders",
                "AS subscriptions",
                "AS autovacuum",
                "AS active_time",
            ];
            messages >= 3 && parts.into_iter().all(|part| compute.count_in_log(part) == messages)
        })
        .await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn autovacuum_keeps_awake() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for (name, value, kind) in [
            ("autovacuum_naptime", "1", "integer"),
            ("autovacuum_vacuum_cost_delay", "100", "real"),
            ("autovacuum_vacuum_cost_limit", "1", "integer"),
            ("autovacuum_vacuum_threshold", "1", "integer"),
        ] {
            bed.spec.typed(name, value, kind);
        }
        let mut compute = running(&bed).await;
        let dead = "CREATE TABLE dead AS SELECT g FROM generate_series(1, 100000) g; \
                    DELETE FROM dead";
        compute.run_in("appdb", dead).await;
        compute.wait_for_reason("autovacuum", 1).await;
        compute.wait_until_active().await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
