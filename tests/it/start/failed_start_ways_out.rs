//! Requests to a compute with a failed start, during its stay: it can be ended by request or by
//! signal. No request restarts it (01 §8.2, §13.3, §14.3).

use std::time::{Duration, Instant};

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT, hand_over, put};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Shorter than the stay.
const SOON: Duration = Duration::from_secs(20);

/// Where a start fails.
#[derive(Debug, Clone, Copy)]
enum At {
    /// PGDATA belongs to another program.
    Directory,
    /// Postgres is up, and a database is to have an owner that does not exist.
    Catalog,
}

/// A compute with a failed start, and the reason of the failure.
async fn failed(server: &Server, at: At) -> (Bed, Compute, String) {
    let mut bed = Bed::new(server.clone()).await;
    match at {
        At::Directory => {
            put(&bed.pgdata().join("thesis.tex"), "months of work");
            hand_over(&bed.pgdata());
        }
        At::Catalog => {
            bed.spec.skip_pg_catalog_updates = false;
            bed.spec.database("store", "nobody");
        }
    }
    let mut compute = bed.start_empty();
    compute.wait_for("empty").await;
    let (code, body) = compute.configure(&bed).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    let error = compute.wait_for_failure().await;
    assert_eq!(body["error"], format!("compute configuration failed: {error:?}"));
    (bed, compute, error)
}

/// A sync runs only if Postgres may have written.
fn lsn(at: At) -> Value {
    match at {
        At::Directory => json!({"lsn": null}),
        At::Catalog => json!({"lsn": LSN_TEXT}),
    }
}

#[tokio::test]
async fn a_signal() {
    on_one_server(|server| async move {
        for at in [At::Directory, At::Catalog] {
            let (bed, mut compute, _) = failed(&server, at).await;
            let began = Instant::now();
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{at:?}");
            assert!(began.elapsed() < SOON, "{at:?}");
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn a_terminate() {
    on_one_server(|server| async move {
        for at in [At::Directory, At::Catalog] {
            let (bed, mut compute, error) = failed(&server, at).await;
            let (code, body) = compute.post("/terminate", None).await;
            assert_eq!((code, body), (StatusCode::OK, lsn(at)), "{at:?}");
            let (_, status) = compute.get("/status").await;
            assert_eq!(
                (&status["status"], &status["error"]),
                (&json!("terminated"), &json!(error))
            );
            assert_eq!(compute.wait_exit_within(SOON).await.code(), Some(1), "{at:?}");
            assert_nothing_left(&bed);
        }
    })
    .await;
}

/// The request is recorded and has no effect; the error stays, and the other requests still work.
#[tokio::test]
async fn a_refresh_leads_nowhere_and_bars_nothing() {
    on_one_server(|server| async move {
        for at in [At::Directory, At::Catalog] {
            let (bed, mut compute, error) = failed(&server, at).await;
            let refused = async |status: &str| {
                let refusal = json!({"error": format!("invalid compute status: {status}")});
                let answer = compute.configure(&bed).await;
                assert_eq!(answer, (StatusCode::PRECONDITION_FAILED, refusal), "{at:?}");
            };
            refused("failed").await;
            compute.refresh().await;
            compute.refresh().await;
            refused("refresh-configuration-pending").await;
            let (_, status) = compute.get("/status").await;
            assert_eq!(status["status"], "refresh_configuration_pending");
            assert_eq!(status["error"], error);
            let (code, body) = compute.post("/terminate?mode=immediate", None).await;
            assert_eq!((code, body), (StatusCode::OK, lsn(at)), "{at:?}");
            assert_eq!(compute.wait_exit_within(SOON).await.code(), Some(1), "{at:?}");
            assert_nothing_left(&bed);
        }
    })
    .await;
}
