//! No standby ever applies roles and databases, whatever its spec says (05 §1).

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

#[tokio::test]
async fn neither_at_the_start_nor_later() {
    on_one_server(|server| async move {
        for mode in [json!("Replica"), json!({"Static": "0/1F30EC8"})] {
            let mut bed = Bed::new(server.clone()).await;
            bed.spec.mode = mode;
            bed.spec.skip_pg_catalog_updates = false;
            bed.spec.role("ann", None).database("store", "ann");
            let mut compute = bed.start();
            bed.wait_running(&mut compute).await;
            compute.apply(&bed).await;
            let made = "SELECT count(*) FROM pg_roles WHERE rolname IN ('ann', 'neon_superuser')";
            assert_eq!(compute.sql_text(made).await, "0");
            for sign in ["Applying config", "Running migration", "post_apply_config", "ERROR"] {
                assert_eq!(compute.count_in_log(sign), 0, "{sign}\n{}", compute.log());
            }
            compute.end().await;
            assert_nothing_left(&bed);
        }
    })
    .await;
}
