//! Prewarms that are abandoned: Postgres ends them as if they had succeeded (07 §13.1), but a
//! partial cache is not stored.

use serde_json::json;

use super::lfc::{AT_WORK, cancel, finish, hex, metric, outcome, post, prewarm, set};
use crate::support::bed::{Bed, CACHE_FUNCTIONS, CACHE_STATE, compressed_cache, use_storage};
use crate::support::network::{HttpStub, Reply};
use crate::support::server::on_one_server;

/// When it is cancelled it first ends its workers, which takes longer than other statements may,
/// and then returns.
const STOPS_QUIETLY: &str = r"
    CREATE OR REPLACE FUNCTION neon.prewarm_local_cache(state bytea, n_workers int DEFAULT 1)
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_catalog.pg_sleep(seconds) FROM neon.behaviour;
    EXCEPTION WHEN query_canceled THEN
        PERFORM pg_catalog.pg_sleep(1.5);
    END $$
";

#[tokio::test]
async fn half_a_cache_is_not_stored() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(200, compressed_cache())).await;
        let mut bed = Bed::new(server).await;
        use_storage(&mut bed, &storage.address);
        bed.spec.member("offload_lfc_interval_seconds", json!(1));
        let mut compute = bed.start_with_env(&[("RUST_LOG", "debug")]);
        compute.wait_for("running").await;
        let stand_ins = format!("BEGIN; {CACHE_FUNCTIONS}; {STOPS_QUIETLY}; COMMIT");
        compute.sql().await.batch_execute(&stand_ins).await.unwrap();
        set(&compute, "seconds = 3600").await;
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        compute.wait_for_sql(AT_WORK, "1").await;
        // From now on a state can be stored.
        set(&compute, &format!("seconds = 0, state = '\\x{}'", hex(CACHE_STATE))).await;
        assert_eq!(cancel(&compute).await, 202);
        assert_eq!(outcome(&compute, "/lfc/prewarm").await, json!({"status": "cancelled"}));
        assert_eq!(compute.sql_text(AT_WORK).await, "0");
        compute.wait_for_log_times("no offload, the prewarm is Cancelled", 2).await;
        let puts = || storage.lines().iter().filter(|line| line.starts_with("PUT ")).count();
        assert_eq!(puts(), 0, "{:?}", storage.lines());
        assert_eq!(metric(&compute, "prewarm_errors").await, 0);

        assert_eq!(prewarm(&compute).await["status"], "completed");
        crate::support::assertions::eventually("the state of the whole cache", || puts() > 0).await;
        finish(compute, &bed).await;
    })
    .await;
}
