//! A lock that was there before Postgres started, which only a prepared transaction can have, ends the
//! start with an error that says so (05 weakness 5, §8).

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

#[tokio::test]
async fn by_a_prepared_transaction() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.allow_holding();
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.run("CREATE ROLE ann").await;
        compute.hold_in("postgres", "ALTER ROLE ann CONNECTION LIMIT 5").await;
        bed.take_data(compute).await;

        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", Some("0123456789abcdef0123456789abcdef"));
        let mut compute = bed.start();
        compute.wait_for_lock_waits("compute_ctl:apply_config", 1).await;
        let long = "SELECT count(*) FROM pg_locks WHERE NOT granted \
            AND waitstart < clock_timestamp() - interval '15 s'";
        until("it has waited for a while", || async { compute.sql_text(long).await == "1" }).await;
        let error = compute.wait_for_failure().await;
        for part in ["alter role \"ann\"", "lock held by a prepared transaction"] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}
