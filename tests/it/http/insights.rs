//! `/insights`: the slowest statements, twice encoded (03 §5.3, T15).

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_every_server;

/// The body is a string that contains JSON.
async fn insights(compute: &Compute) -> Value {
    let (code, body) = compute.get("/insights").await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(body.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn with_and_without_the_extension() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("shared_preload_libraries", "pg_stat_statements");
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        assert_eq!(insights(&compute).await, json!({"pg_stat_statements": []}));

        let sql = compute.sql().await;
        sql.batch_execute("CREATE EXTENSION pg_stat_statements; CREATE ROLE someone LOGIN")
            .await
            .unwrap();
        sql.batch_execute("SELECT 'the administrator'").await.unwrap();
        sql.batch_execute("SET ROLE someone; SELECT 1 AS \"quo\"\"ted\"; RESET ROLE")
            .await
            .unwrap();
        let seen = insights(&compute).await;
        let rows = seen["pg_stat_statements"].as_array().unwrap();
        let query = |row: &Value| row["query"].as_str().unwrap().to_owned();
        assert!(rows.iter().any(|row| query(row).contains("quo\"\"ted")), "{seen}");
        assert!(rows.iter().all(|row| row["calls"].is_u64() && row["mean_exec_time"].is_number()));
        let admin =
            compute.sql_text("SELECT oid FROM pg_roles WHERE rolname = 'cloud_admin'").await;
        assert!(rows.iter().all(|row| row["userid"] != admin.as_str()), "{seen}");
        let time = |row: &Value| {
            row["mean_exec_time"].as_f64().unwrap() + row["mean_plan_time"].as_f64().unwrap()
        };
        assert!(rows.is_sorted_by(|a, b| time(a) >= time(b)), "{seen}");

        // Statements of different shapes; constants make no difference.
        let many: Vec<_> = (2..130)
            .map(|columns| format!("SELECT {}", ["1"].repeat(columns).join(", ")))
            .collect();
        sql.batch_execute("SET ROLE someone").await.unwrap();
        sql.batch_execute(&many.join("; ")).await.unwrap();
        let kept = "SELECT count(*) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid \
                    WHERE r.rolname = 'someone'";
        assert!(compute.sql_text(kept).await.parse::<usize>().unwrap() > 100);
        assert_eq!(insights(&compute).await["pg_stat_statements"].as_array().unwrap().len(), 100);

        // A server that cannot be asked differs from an empty result (07 W32).
        let outside = compute.session_in("template1").await;
        outside.batch_execute("DROP DATABASE postgres WITH (FORCE)").await.unwrap();
        let (code, body) = compute.get("/insights").await;
        assert_eq!(code, 500, "{body}");
        assert!(body["error"].as_str().unwrap().contains("\"postgres\" does not exist"), "{body}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let (code, body) = compute.get("/insights").await;
        assert_eq!(
            (code.as_u16(), &body),
            (412, &json!({"error": "invalid compute status: empty"}))
        );
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
