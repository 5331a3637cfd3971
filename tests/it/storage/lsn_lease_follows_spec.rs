//! Leases of a static compute follow later specs: every pageserver of every shard, and new ones at
//! once.

use std::time::Duration;

use compute_ctl::dev::pageserver::{LeaseAnswer, PageserverOptions, StandInPageserver};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

const LSN: &str = "0/1F30EC8";
const LATER: &str = "0/1F30FF0";

async fn another(bed: &Bed) -> StandInPageserver {
    let options = PageserverOptions { archive: bed.archive(), port: 0, password: None };
    StandInPageserver::start(options).await.unwrap()
}

fn urls(pageserver: &StandInPageserver) -> Value {
    json!({"libpq_url": pageserver.connstring(), "grpc_url": pageserver.grpc_url()})
}

fn leases(pageserver: &StandInPageserver) -> Vec<String> {
    let all = [pageserver.journal(), pageserver.grpc_journal()];
    let commands = all.iter().flat_map(|journal| journal.commands());
    commands.filter(|text| text.to_lowercase().starts_with("lease")).collect()
}

#[tokio::test]
async fn every_pageserver_of_every_shard_is_asked_by_itself() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let (first, second, spare) =
            (another(&bed).await, another(&bed).await, another(&bed).await);
        // Neither a slow pageserver nor one that fails delays the others (06 W7).
        first.behave(|it| it.lease = LeaseAnswer::For(Duration::from_secs(2)));
        second.behave(|it| it.lease = LeaseAnswer::Error("no".to_owned()));
        bed.spec.mode = json!({"Static": LSN});
        for protocol in ["libpq", "grpc"] {
            for pageserver in [&first, &second, &spare] {
                pageserver.journal().clear();
                pageserver.grpc_journal().clear();
            }
            bed.spec.member(
                "pageserver_connection_info",
                json!({
                    "shard_count": 2, "stripe_size": 2048, "prefer_protocol": protocol,
                    "shards": {
                        "0002": {"pageservers": [urls(&first), urls(&spare)]},
                        "0102": {"pageservers": [urls(&second)]},
                    }
                }),
            );
            let mut compute = bed.start();
            compute.wait_for("running").await;
            eventually("the first one renews", || leases(&first).len() >= 3).await;
            eventually("the second one is tried again", || leases(&second).len() >= 2).await;
            assert_eq!(leases(&spare).len(), 1);
            let (tenant, timeline) = (&bed.spec.tenant_id, &bed.spec.timeline_id);
            for (pageserver, shard) in [(&first, "0002"), (&spare, "0002"), (&second, "0102")] {
                let seen = leases(pageserver).remove(0);
                if protocol == "libpq" {
                    assert_eq!(seen, format!("lease lsn {tenant}-{shard} {timeline} {LSN}"));
                } else {
                    assert_eq!(seen, format!("LeaseLsn {LSN}"));
                    let shard = ("neon-shard-id".to_owned(), shard.to_owned());
                    let calls = pageserver.grpc_journal().startups();
                    assert!(calls.iter().all(|call| call.contains(&shard)), "{calls:?}");
                }
            }
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            compute.forget_log();
        }
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_moved_tenant_gets_its_lease_at_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!({"Static": LSN});
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_log("Request succeeded").await;

        // With the same information no pageserver is asked again.
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        assert_eq!(leases(&bed.pageserver).len(), 1);

        // Another pageserver, with another token; then the same one over gRPC.
        let moved = another(&bed).await;
        moved.behave(|it| it.password = Some("new-token".to_owned()));
        bed.spec.storage_auth_token = Some("new-token".to_owned());
        bed.spec.pageserver_connstring = moved.connstring();
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        compute.wait_for_log_times("Request succeeded", 2).await;
        compute.wait_for_log("Pageserver config changed").await;
        assert_eq!(moved.journal().passwords(), ["new-token"]);
        bed.spec.pageserver_over_grpc(&moved);
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        compute.wait_for_log_times("Request succeeded", 3).await;
        assert_eq!(moved.grpc_journal().commands(), [format!("LeaseLsn {LSN}")]);
        assert_eq!(leases(&bed.pageserver).len(), 1, "it is not asked any more");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres reads at the LSN of its start until it ends.
#[tokio::test]
async fn a_later_lsn_is_leased_beside_the_first() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        bed.spec.mode = json!({"Static": LSN});
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        compute.wait_for_log("Request succeeded").await;

        bed.spec.mode = json!({"Static": LATER});
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        compute.wait_for_log_times("Request succeeded", 3).await;
        let seen = leases(&bed.pageserver);
        let of = |lsn: &str| seen.iter().filter(|text| text.ends_with(lsn)).count();
        assert_eq!((of(LSN), of(LATER)), (2, 1), "{seen:?}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The compute was not started at an LSN, so it leases one for as long as the spec names it.
#[tokio::test]
async fn a_primary_that_becomes_static_leases_from_then_on() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.pageserver.behave(|it| it.lease = LeaseAnswer::For(Duration::from_secs(2)));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        for round in 1..=2 {
            bed.spec.mode = json!({"Static": LSN});
            let (code, answer) = compute.configure(&bed).await;
            assert_eq!(code.as_u16(), 200, "{answer}\n{}", compute.log());
            let asked = leases(&bed.pageserver).len();
            eventually("it is renewed", || leases(&bed.pageserver).len() >= asked + 2).await;

            bed.spec.mode = json!("Primary");
            let (code, answer) = compute.configure(&bed).await;
            assert_eq!(code.as_u16(), 200, "{answer}");
            compute.wait_for_log_times("Pageserver config changed", round).await;
        }
        let asked = leases(&bed.pageserver).len();
        // A client that continues would have sent another request by now.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(leases(&bed.pageserver).len(), asked);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_counts_like_a_request() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!({"Static": LSN});
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_log("Request succeeded").await;
        let moved = another(&bed).await;
        bed.spec.pageserver_connstring = moved.connstring();
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        compute.wait_for_log_times("Request succeeded", 2).await;
        assert_eq!((leases(&bed.pageserver).len(), leases(&moved).len()), (1, 1));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The previous spec is in force again, and so are its pageservers.
#[tokio::test]
async fn a_spec_that_fails_does_not_move_the_lease() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!({"Static": LSN});
        bed.pageserver.behave(|it| it.lease = LeaseAnswer::For(Duration::from_secs(2)));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_log("Request succeeded").await;
        let wrong = another(&bed).await;
        wrong.behave(|it| it.lease = LeaseAnswer::For(Duration::from_secs(2)));
        bed.spec.pageserver_connstring = wrong.connstring();
        bed.spec.typed("work_mem", "none", "integer");
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 400, "{answer}");
        let asked = leases(&bed.pageserver).len();
        eventually("it is renewed", || leases(&bed.pageserver).len() >= asked + 2).await;
        let asked = leases(&wrong).len();
        eventually("it is renewed", || leases(&bed.pageserver).len() >= asked + 2).await;
        assert_eq!(leases(&wrong).len(), asked, "asked once more");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The old value may have caused the failure, so the pause is cut short.
#[tokio::test]
async fn another_token_cuts_the_pause_after_a_failure_short() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!({"Static": LSN});
        bed.spec.storage_auth_token = Some("old-token".to_owned());
        bed.pageserver.behave(|it| {
            it.password = Some("old-token".to_owned());
            it.lease = LeaseAnswer::For(Duration::from_secs(2));
        });
        let mut compute = bed.start();
        compute.wait_for("running").await;
        compute.wait_for_log("Request succeeded").await;
        bed.pageserver.behave(|it| it.password = Some("new-token".to_owned()));
        compute.wait_for_log("(attempt 1)").await;
        for token in ["wrong-token", "new-token"] {
            let granted = compute.count_in_log("Request succeeded");
            bed.spec.storage_auth_token = Some(token.to_owned());
            let (code, answer) = compute.configure(&bed).await;
            assert_eq!(code.as_u16(), 200, "{answer}");
            match token {
                // The pauses start from the shortest again.
                "wrong-token" => compute.wait_for_log_times("(attempt 0)", 2).await,
                _ => compute.wait_for_log_times("Request succeeded", granted + 1).await,
            }
        }
        assert!(!compute.log().contains("Pageserver config changed"), "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
