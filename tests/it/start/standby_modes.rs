//! Replica and Static: read-only, and the safekeepers belong to another compute.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::{on_every_server, on_one_server};

const STATIC_LSN: &str = "0/1F30EC8";

/// From the start to `/terminate`, on a compute that must not contact the safekeepers.
async fn lives_without_safekeepers(bed: &mut Bed, mode: Value, name: &str, lsn: Option<&str>) {
    bed.spec.mode = mode;
    // The safekeepers would need a sync, and its child would make the start and the end fail.
    bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
    let mut compute = bed.start();
    compute.wait_for("running").await;

    let journal = bed.pageserver.journal();
    let command = format!("{} --replica", bed.basebackup_command(lsn));
    // A static compute asks for a lease as well.
    let is_basebackup = |text: &String| text.starts_with("basebackup");
    let commands: Vec<String> = journal.commands().into_iter().filter(is_basebackup).collect();
    assert_eq!(commands, [command]);
    let startups = format!("{:?}", journal.startups());
    assert!(startups.contains(&format!("-c neon.compute_mode={name}")), "{startups}");

    assert!(bed.pgdata().join("standby.signal").is_file());
    assert_eq!(bed.pgdata_text("standby.signal"), "");
    assert_eq!(compute.sql_text("SELECT pg_is_in_recovery()").await, "t");
    assert_eq!(compute.sql_text("SHOW neon.compute_mode").await, name);
    assert_eq!(compute.sql_text("SHOW hot_standby").await, "on");
    assert_eq!(compute.sql_text("SHOW recovery_target_lsn").await, lsn.unwrap_or_default());
    let metrics = compute.get("/metrics.json").await.1;
    assert_eq!(
        (&metrics["sync_sk_check_ms"], &metrics["sync_safekeepers_ms"]),
        (&0.into(), &0.into())
    );

    let (code, answer) = compute.post("/terminate?mode=immediate", None).await;
    assert_eq!((code.as_u16(), answer), (200, json!({"lsn": null})));
    assert_eq!(compute.wait_exit().await.code(), Some(0));
    assert_eq!(bed.safekeepers[0].journal().connections(), 0, "no request");
    assert_eq!(bed.wrapper.calls().unwrap(), [], "neither at the start nor at the end");
    assert_nothing_left(bed);
}

#[tokio::test]
async fn a_replica() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        lives_without_safekeepers(&mut bed, json!("Replica"), "replica", None).await;
    })
    .await;
}

#[tokio::test]
async fn a_static_compute() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mode = json!({"Static": STATIC_LSN});
        lives_without_safekeepers(&mut bed, mode, "static", Some(STATIC_LSN)).await;
    })
    .await;
}

/// The directory of a standby is deleted like any other.
#[tokio::test]
async fn a_primary_after_a_replica_is_not_a_standby() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!("Replica");
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        bed.spec.mode = json!("Primary");
        compute = bed.start();
        compute.wait_for("running").await;
        assert!(!bed.pgdata().join("standby.signal").exists());
        assert_eq!(compute.sql_text("SELECT pg_is_in_recovery()").await, "f");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
