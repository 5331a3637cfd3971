//! An apply as a whole has a deadline (05 weakness 5). After it no session of the apply continues,
//! and the error says how far the apply came.

use std::time::Duration;

use compute_ctl::catalog::apply::apply;
use compute_ctl::catalog::execute::ApplyError;
use compute_ctl::catalog::plan::Wanted;
use compute_ctl::catalog::pool::{ApplyLimits, Sessions};
use compute_ctl::postgres::install::PgVersion;
use compute_ctl::spec::ComputeSpec;
use compute_ctl::sql::{APPLY_CONFIG, SessionDeadlines, session_config};
use serde_json::json;
use tokio_postgres::NoTls;

use crate::support::assertions::{PATIENCE, until};
use crate::support::server::{Vanilla, on_one_server};

/// Long enough for a busy machine to reach the locks.
const LIMIT: Duration = Duration::from_secs(10);
const LOCK: &str = "BEGIN; LOCK TABLE pg_catalog.pg_default_acl IN";

#[tokio::test]
async fn an_apply_ends_and_says_how_far_it_came() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let mut locks = Vec::new();
        // The first lock blocks a read, the others block the writes that follow it.
        for (name, mode) in [("a", "ACCESS EXCLUSIVE"), ("b", "SHARE"), ("c", "SHARE")] {
            vanilla.client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            let url = vanilla.url().replace("/postgres", &format!("/{name}"));
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(&format!("{LOCK} {mode} MODE")).await.unwrap();
            locks.push(client);
        }
        let spec: ComputeSpec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0,
            "cluster": {"roles": [{"name": "ann"}], "databases": [
                {"name": "a", "owner": "ann"}, {"name": "b", "owner": "ann"},
                {"name": "c", "owner": "ann"}]}
        }))
        .unwrap();
        let wanted =
            Wanted { spec: &spec, timeline: "ab", privileged_role: "boss", look_everywhere: false };
        // The oldest version's settings will do.
        let sessions = |whole| {
            let config = session_config(&vanilla.url(), APPLY_CONFIG, PgVersion::V14).unwrap();
            let each = SessionDeadlines { connect: PATIENCE, statement: PATIENCE, lock: PATIENCE };
            let limits =
                ApplyLimits { whole, per_database: Duration::ZERO, ..ApplyLimits::default() };
            Sessions::new(config, each, limits, 3)
        };
        let (report, result) = apply(&sessions(LIMIT), &wanted, 3, false).await;
        let error = result.unwrap_err();
        let ApplyError::Deadline { limit, done, step, steps, left } = error else {
            panic!("{error}")
        };
        assert_eq!((limit, done, left), (LIMIT, report.counts.done, 3), "{error}");
        assert!(done >= 5 && 1 < step && step <= steps, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("gave up after 10 s: {done} operations")), "{text}");
        assert_eq!(report.error, Some(text));
        assert_eq!(report.timed_out, 3, "what was in progress: {report:?}");

        // The compute does nothing more once the locks are free.
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = '{APPLY_CONFIG}' AND state = 'active'"
        );
        until("no session waits", || async {
            vanilla.client.query_one(&waiting, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        drop(locks);
        let (report, result) = apply(&sessions(PATIENCE), &wanted, 2, false).await;
        result.unwrap();
        assert_eq!(report.counts.done, 6, "both kinds of defaults in each: {report:?}");
        vanilla.stop().await;
    })
    .await;
}
