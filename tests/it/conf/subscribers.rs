//! `drop_subscriptions_before_start` and the line that keeps subscribers from running (04 §3.4):
//! off until the catalog changes are done, on afterwards, also by a reconfiguration (04 W10).

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

const SETTING: &str = "neon.disable_logical_replication_subscribers";

/// All values of the setting in the file, in order.
fn values(bed: &Bed) -> Vec<String> {
    let text = bed.pgdata_text("postgresql.conf");
    let prefix = format!("{SETTING}=");
    text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

#[tokio::test]
async fn on_again_when_the_changes_are_done() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.member("drop_subscriptions_before_start", json!(true));
        // An equal line further up has no effect.
        let line = format!("{SETTING}=false\n");
        let cluster = bed.spec.spec()["cluster"].clone();
        let mut with_base_text = cluster;
        with_base_text["postgresql_conf"] = json!(line);
        bed.spec.member("cluster", with_base_text);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(values(&bed), ["false", "true", "false"]);
        let text = bed.pgdata_text("postgresql.conf");
        assert_eq!(text.lines().last(), Some(line.trim_end()));
        let show = format!("SHOW {SETTING}");
        compute.wait_for_sql(&show, "false").await;

        // With catalog changes: off while they run, then on.
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(values(&bed), ["false", "true", "false"]);
        compute.wait_for_sql(&show, "false").await;

        // Without catalog changes nothing is dropped, so subscribers are not stopped at all.
        bed.spec.skip_pg_catalog_updates = true;
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(values(&bed), ["false", "false"]);
        compute.wait_for_sql(&show, "false").await;

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn off_until_something_has_dropped_them() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("drop_subscriptions_before_start", json!(true));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let show = format!("SHOW {SETTING}");
        assert_eq!(values(&bed), ["true"]);
        assert_eq!(compute.sql_text(&show).await, "true");

        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(values(&bed), ["true"]);

        bed.spec.skip_pg_catalog_updates = false;
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(values(&bed), ["true", "false"]);
        compute.wait_for_sql(&show, "false").await;

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
