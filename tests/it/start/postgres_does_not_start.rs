//! A Postgres that ends before it is ready, and one that never becomes ready (01 §10).

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

#[tokio::test]
async fn a_bad_setting_is_reported_in_postgres_own_words() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("shared_buffers", "1000000000000", "integer");
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        for part in ["Postgres exited unexpectedly with code 1", "FATAL", "\"shared_buffers\""] {
            assert!(error.contains(part), "{error}");
        }
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(
            (code.as_u16(), body["error"].as_str().unwrap()),
            (412, "invalid compute status: failed")
        );
        // A `/terminate` need not wait for the rest of the stay.
        let (code, body) = compute.post("/terminate", None).await;
        assert!(code == 200 && body["lsn"].is_string(), "the safekeepers were synced: {body}");
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}

/// The limit itself is tested beside the code of `postgres::ready`.
#[tokio::test]
async fn a_signal_ends_the_wait_for_one_that_never_gets_ready() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.before_server("cd \"$2\"; exec sleep 86400");
        let mut compute = bed.start_with_env(&[("RUST_LOG", "debug")]);
        compute.wait_for_log("phase start_postgres begins").await;
        assert_eq!(compute.get("/status").await.1["status"], "init");
        bed.wrapper.clear_journal().unwrap();
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(bed.wrapper.calls().unwrap(), []);
        assert_nothing_left(&bed);
    })
    .await;
}
