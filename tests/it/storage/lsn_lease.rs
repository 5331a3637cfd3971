//! A static compute leases its LSN, over either protocol; it runs whatever the result.

use std::time::{Duration, Instant};

use compute_ctl::dev::journal::{Event, Journal};
use compute_ctl::dev::pageserver::LeaseAnswer;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const LSN: &str = "0/1F30EC8";

/// Both protocols, as (journal, request).
#[derive(Clone, Copy, PartialEq, Debug)]
enum Protocol {
    Libpq,
    Grpc,
}

const BOTH: [Protocol; 2] = [Protocol::Libpq, Protocol::Grpc];

impl Protocol {
    fn journal(self, bed: &Bed) -> Journal {
        match self {
            Self::Libpq => bed.pageserver.journal(),
            Self::Grpc => bed.pageserver.grpc_journal(),
        }
    }

    /// The times of the lease requests.
    fn requests(self, bed: &Bed) -> Vec<Instant> {
        let wanted = match self {
            Self::Libpq => {
                format!("lease lsn {} {} {LSN}", bed.spec.tenant_id, bed.spec.timeline_id)
            }
            Self::Grpc => format!("LeaseLsn {LSN}"),
        };
        let is_request = |event: &Event| *event == Event::Command(wanted.clone());
        let entries = self.journal(bed).entries();
        entries.iter().filter(|entry| is_request(&entry.event)).map(|entry| entry.at).collect()
    }

    async fn requested(self, bed: &Bed, times: usize) -> Vec<Instant> {
        eventually("so many leases are asked for", || self.requests(bed).len() >= times).await;
        self.requests(bed)
    }
}

/// A static compute whose lease requests get this answer.
async fn start(bed: &mut Bed, protocol: Protocol, answer: LeaseAnswer) -> Compute {
    bed.spec.mode = json!({"Static": LSN});
    bed.spec.extra.clear();
    if protocol == Protocol::Grpc {
        bed.spec.pageserver_over_grpc(&bed.pageserver);
    }
    bed.pageserver.journal().clear();
    bed.pageserver.grpc_journal().clear();
    bed.pageserver.behave(|it| it.lease = answer);
    let mut compute = bed.start();
    compute.forget_log();
    compute.wait_for("running").await;
    compute
}

async fn end(bed: &Bed, mut compute: Compute) {
    assert_eq!(compute.get("/status").await.1["status"], "running");
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_nothing_left(bed);
}

/// The time between two consecutive requests.
fn gaps(requests: &[Instant]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

const SUCCEEDED: &str = "Request succeeded, sleeping for ";

#[tokio::test]
async fn a_long_lease_is_asked_for_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in BOTH {
            let answer = LeaseAnswer::For(Duration::from_secs(600));
            let compute = start(&mut bed, protocol, answer).await;
            compute.wait_for_log(SUCCEEDED).await;
            let log = compute.log();
            let line = log.lines().find(|line| line.contains(SUCCEEDED)).unwrap();
            let span = format!(
                "lsn_lease_bg_task{{tenant_id={} timeline_id={} lsn={LSN}}}: {SUCCEEDED}5",
                bed.spec.tenant_id, bed.spec.timeline_id
            );
            assert!(line.contains(&span), "{line}");
            assert_eq!(protocol.requests(&bed).len(), 1);

            let metrics = compute.get("/metrics").await.1;
            let metrics = metrics.as_str().unwrap();
            let expiry = metrics
                .lines()
                .find_map(|line| {
                    let line =
                        line.strip_prefix("compute_ctl_lsn_lease_expiry_timestamp_seconds")?;
                    assert!(line.contains("shard=\"0000\"") && line.contains(LSN), "{line}");
                    line.rsplit_once(' ')?.1.parse::<f64>().ok()
                })
                .unwrap_or_else(|| panic!("{metrics}"));
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
            assert!((now..now + 601.0).contains(&expiry), "{expiry}");
            assert!(metrics.contains("lsn_lease_requests_total{result=\"granted\"} 1"));
            end(&bed, compute).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_short_lease_is_renewed_before_it_ends() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in BOTH {
            let answer = LeaseAnswer::For(Duration::from_secs(4));
            let compute = start(&mut bed, protocol, answer).await;
            let requests = protocol.requested(&bed, 3).await;
            for gap in gaps(&requests) {
                assert!(gap >= Duration::from_millis(1900), "{gap:?}: after half of it");
            }
            compute.wait_for_log_times(SUCCEEDED, 3).await;
            end(&bed, compute).await;
        }
    })
    .await;
}

#[tokio::test]
async fn errors_are_tried_again_with_growing_pauses() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in BOTH {
            let answer = LeaseAnswer::Error("tenant is moving".to_owned());
            let compute = start(&mut bed, protocol, answer).await;
            let requests = protocol.requested(&bed, 4).await;
            // Each varies by half.
            for (gap, pause) in gaps(&requests).into_iter().zip([500, 750, 1125]) {
                assert!(gap >= Duration::from_millis(pause / 2 - 20), "{gap:?}, not {pause} ms");
            }
            compute.wait_for_log("(attempt 2)").await;
            let log = compute.log();
            for attempt in 0..3 {
                let line = log
                    .lines()
                    .find(|line| line.ends_with(&format!("(attempt {attempt})")))
                    .unwrap_or_else(|| panic!("{log}"));
                assert!(line.contains("Failed to acquire lsn lease: "), "{line}");
                assert!(line.contains("tenant is moving"), "{line}");
            }
            bed.pageserver.behave(|it| it.lease = LeaseAnswer::For(Duration::from_secs(600)));
            compute.wait_for_log(SUCCEEDED).await;
            end(&bed, compute).await;
        }
    })
    .await;
}

/// Postgres still reads at that LSN.
#[tokio::test]
async fn a_lease_that_runs_out_is_an_error_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in BOTH {
            // Renewed when it has expired.
            let answer = LeaseAnswer::For(Duration::from_secs(1));
            let compute = start(&mut bed, protocol, answer.clone()).await;
            compute.wait_for_log(SUCCEEDED).await;
            for times in 1..=2 {
                bed.pageserver.behave(|it| it.lease = LeaseAnswer::Error("no".to_owned()));
                compute.wait_for_log_times("(attempt 2)", times).await;
                let log = compute.settled_log().await;
                let lines: Vec<&str> =
                    log.lines().filter(|line| line.contains("has run out: ")).collect();
                assert_eq!(lines.len(), times, "{log}");
                assert!(lines.iter().all(|line| line.contains("ERROR")), "{lines:?}");
                let granted = compute.count_in_log(SUCCEEDED);
                bed.pageserver.behave(|it| it.lease = answer.clone());
                compute.wait_for_log_times(SUCCEEDED, granted + 1).await;
            }
            end(&bed, compute).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_the_end_of_it() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in BOTH {
            let compute = start(&mut bed, protocol, LeaseAnswer::Text(None)).await;
            compute
                .wait_for_log(
                    "Exited with error: Permanent error: lease could not be obtained, LSN is \
                     behind the GC cutoff",
                )
                .await;
            let metrics = compute.get("/metrics").await.1;
            let metrics = metrics.as_str().unwrap();
            assert!(metrics.contains("requests_total{result=\"refused\"} 1"), "{metrics}");
            // A client that continues would have sent another request by now.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            assert_eq!(protocol.requests(&bed).len(), 1);
            end(&bed, compute).await;
        }
    })
    .await;
}

#[tokio::test]
async fn odd_answers_make_no_hot_loop() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in BOTH {
            // A lease that expired long ago.
            let past = LeaseAnswer::Text(Some("1000".to_owned()));
            let compute = start(&mut bed, protocol, past).await;
            let requests = protocol.requested(&bed, 3).await;
            for gap in gaps(&requests) {
                assert!(gap >= Duration::from_millis(980), "{gap:?}");
            }
            compute.wait_for_log("ends in the past").await;
            end(&bed, compute).await;

            for answer in [LeaseAnswer::Text(Some("soon".to_owned())), LeaseAnswer::NoRow] {
                let compute = start(&mut bed, protocol, answer).await;
                compute.wait_for_log("(attempt 1)").await;
                let gap = gaps(&protocol.requested(&bed, 2).await)[0];
                // Half of the first pause.
                assert!(gap >= Duration::from_millis(230), "{gap:?}");
                end(&bed, compute).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn other_modes_do_not_lease() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for mode in ["Primary", "Replica"] {
            bed.spec.mode = json!(mode);
            let mut compute = bed.start();
            compute.wait_for("running").await;
            assert!(!compute.log().contains("lease"), "{}", compute.log());
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        for protocol in BOTH {
            assert_eq!(protocol.requests(&bed).len(), 0);
        }
        assert_nothing_left(&bed);
    })
    .await;
}
