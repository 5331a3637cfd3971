//! A basebackup over gRPC: what the pageserver is told, and what happens when it fails.

use std::fs;

use compute_ctl::dev::pageserver::Fault;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::server::on_one_server;

/// The request that a start over gRPC must have sent.
fn assert_asked(bed: &Bed, command: &str, shard: &str) {
    let journal = bed.pageserver.grpc_journal();
    let calls: Vec<_> = journal.commands().into_iter().zip(journal.startups()).collect();
    let mut backups = calls.iter().filter(|(text, _)| text.starts_with("GetBaseBackup"));
    let (text, metadata) = backups.next().expect("nothing was asked for");
    assert_eq!((text.as_str(), backups.count()), (command, 0));
    for (key, value) in [
        ("neon-tenant-id", &*bed.spec.tenant_id),
        ("neon-timeline-id", &*bed.spec.timeline_id),
        ("neon-shard-id", shard),
    ] {
        let pair = (key.to_owned(), value.to_owned());
        assert!(metadata.contains(&pair), "{pair:?} not in {metadata:?}");
    }
    assert_eq!(bed.pageserver.journal().connections(), 0, "no libpq");
}

#[tokio::test]
async fn every_mode() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.pageserver_over_grpc(&bed.pageserver);
        let size = fs::metadata(bed.archive()).unwrap().len();
        for (mode, command) in [
            (json!("Primary"), format!("GetBaseBackup {LSN_TEXT} gzip")),
            (json!("Replica"), "GetBaseBackup 0/0 replica gzip".to_owned()),
            (json!({"Static": "0/1F30EC8"}), "GetBaseBackup 0/1F30EC8 replica gzip".to_owned()),
        ] {
            println!("{mode}");
            bed.spec.mode = mode.clone();
            bed.pageserver.grpc_journal().clear();
            let mut compute = bed.start();
            compute.wait_for("running").await;
            // If the safekeepers answer too late, a sync runs, which finds the same LSN.
            assert_asked(&bed, &command, "0000");
            let metrics = compute.get("/metrics.json").await.1;
            assert_eq!(metrics["basebackup_bytes"], size);
            assert!(metrics["pageserver_connect_micros"].as_u64() > Some(0), "{metrics}");
            let standby = mode != json!("Primary");
            assert_eq!(bed.pgdata().join("standby.signal").exists(), standby);
            let in_recovery = compute.sql_text("SELECT pg_is_in_recovery()").await;
            assert_eq!(in_recovery, if standby { "t" } else { "f" });
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn shard_0_of_2_with_a_token() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.storage_auth_token = Some("stub-token".to_owned());
        bed.pageserver.behave(|it| it.password = Some("stub-token".to_owned()));
        let url = bed.pageserver.grpc_url();
        // A plain URL is accepted, and its user is not sent.
        let plain = url.replace("grpc://no_user@", "http://u:planted@");
        let libpq = bed.pageserver.connstring();
        bed.spec.member(
            "pageserver_connection_info",
            json!({
                "shard_count": 2, "stripe_size": 2048, "prefer_protocol": "grpc",
                "shards": {
                    "0002": {"pageservers": [{"grpc_url": plain, "libpq_url": libpq}]},
                    "0102": {"pageservers": [{"grpc_url": url, "libpq_url": libpq}]},
                }
            }),
        );
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_asked(&bed, &format!("GetBaseBackup {LSN_TEXT} gzip"), "0002");
        assert_eq!(bed.pageserver.grpc_journal().passwords(), ["stub-token"]);
        let log = compute.settled_log().await;
        assert!(!log.contains("stub-token") && !log.contains("planted"), "{log}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn failures_before_and_within_the_stream_are_tried_again() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.pageserver_over_grpc(&bed.pageserver);
        let text = |text: &str| text.to_owned();
        bed.pageserver.set_fault(Fault::Error(text("tenant is moving")), Some(1));
        bed.pageserver.then_fault(Fault::ErrorAfter(700_000, text("disk on fire")), Some(1));
        bed.pageserver.then_fault(Fault::DropAfter(700_000), Some(1));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let log = compute.settled_log().await;
        let failures: Vec<&str> =
            log.lines().filter(|line| line.contains("Failed to get basebackup: ")).collect();
        let url = bed.pageserver.grpc_url();
        let peer = url.rsplit(['/', '@']).next().unwrap();
        let expected = [
            &format!(
                "the pageserver answers: tenant is moving (gRPC status NotFound), from {peer} \
                 (attempt 1/11)"
            ),
            &format!(
                "the pageserver answers: disk on fire (gRPC status Internal), from {peer} \
                 (attempt 2/11)"
            ),
            "(attempt 3/11)",
        ];
        assert_eq!(failures.len(), expected.len(), "{log}");
        for (line, words) in failures.iter().zip(expected) {
            assert!(line.ends_with(words), "{line}");
        }
        assert!(failures[2].contains("the connection to the pageserver was lost"), "{log}");
        assert_eq!(compute.sql_text("SELECT count(*) > 0 FROM pg_class").await, "t");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_missing_token_ends_the_start_at_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.pageserver_over_grpc(&bed.pageserver);
        bed.pageserver.behave(|it| it.password = Some("stub-token".to_owned()));
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        for text in ["failed to get basebackup@", "missing authorization", "Unauthenticated"] {
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(bed.pageserver.grpc_journal().commands().len(), 1);
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Faults that the original detects during the basebackup are detected before anything is changed.
#[tokio::test]
async fn unusable_information_is_refused() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let libpq = bed.pageserver.connstring();
        for (pageserver, text) in [
            (json!({"libpq_url": libpq}), "no grpc_url for shard 0000"),
            (
                json!({"grpc_url": "https://u:planted@a:1"}),
                "the grpc_url of shard 0000 cannot be used: it demands TLS",
            ),
        ] {
            let shards = json!({"0000": {"pageservers": [pageserver]}});
            let info = json!({"shard_count": 0, "prefer_protocol": "grpc", "shards": shards});
            bed.spec.member("pageserver_connection_info", info);
            let mut compute = bed.start();
            assert_eq!(compute.wait_exit().await.code(), Some(1));
            let log = compute.log();
            assert!(log.contains(text) && !log.contains("planted"), "{log}");
            compute.forget_log();
        }
        assert_eq!(bed.pageserver.grpc_journal().connections(), 0);
        assert_nothing_left(&bed);
    })
    .await;
}
