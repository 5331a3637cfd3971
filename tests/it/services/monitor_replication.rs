//! Replication keeps a compute awake, in both directions (07 §1.2 steps 3 and 4).

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::{Vanilla, WalReceiver, on_one_server};

#[tokio::test]
async fn wal_that_is_streamed() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let lsn = compute.sql_text("SELECT pg_current_wal_flush_lsn()").await;
        // Safekeepers are always there.
        let safekeeper = WalReceiver::start(bed.port, "walproposer", &lsn).await;
        assert_eq!(compute.stays_inactive().await, None);
        let standby = WalReceiver::start(bed.port, "x", &lsn).await;
        compute.wait_for_reason("replication", 1).await;
        compute.wait_until_active().await;
        drop(standby);
        compute.wait_for_reason("replication", 0).await;
        compute.stays_inactive().await;
        drop(safekeeper);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn subscriptions_and_subscribers() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server.clone()).await;
        bed.without_autovacuum().spec.typed("wal_level", "logical", "enum");
        let other = Vanilla::start(&server, &["wal_level=logical", "autovacuum=off"]).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        other.client.batch_execute("CREATE TABLE public.t (x int)").await.unwrap();
        other.client.batch_execute("CREATE PUBLICATION p FOR ALL TABLES").await.unwrap();
        compute.run("CREATE TABLE public.t (x int)").await;
        compute.run("CREATE PUBLICATION p FOR ALL TABLES").await;

        let subscription = |name: &str, port: u16| {
            format!(
                "CREATE SUBSCRIPTION {name} \
                 CONNECTION 'host=127.0.0.1 port={port} user=cloud_admin dbname=postgres' \
                 PUBLICATION p WITH (copy_data = false)"
            )
        };
        compute.run(&subscription("inbound", other.port)).await;
        compute.wait_for_reason("subscriptions", 1).await;
        compute.wait_until_active().await;
        compute.run("ALTER SUBSCRIPTION inbound DISABLE").await;
        compute.wait_for_reason("subscriptions", 0).await;
        compute.stays_inactive().await;

        other.client.batch_execute(&subscription("outbound", bed.port)).await.unwrap();
        compute.wait_for_reason("replication", 1).await;
        compute.wait_until_active().await;
        other.client.batch_execute("DROP SUBSCRIPTION outbound").await.unwrap();
        compute.wait_for_reason("replication", 0).await;
        compute.stays_inactive().await;
        compute.end().await;
        other.stop().await;
        assert_nothing_left(&bed);
    })
    .await;
}
