//! Secrets stay out of the log and of error texts, also at the most talkative level.

use compute_ctl::dev::pageserver::Fault;
use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;

use crate::support::{Bed, Compute, assert_nothing_left, on_every_server, on_one_server};

/// In every secret, so that one search finds any of them.
const MARK: &str = "PLANTED";
const TOKEN: &str = "PLANTED-storage-token";
/// Valid, so that Postgres stores them as they are.
const HASH: &str = "SCRAM-SHA-256$4096:PLANTEDA\
                    $PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
                    :PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_HASH: &str = "SCRAM-SHA-256$4096:PLANTEDA\
                          $PLANTEDBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
                          :PLANTEDBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TALKATIVE: [(&str, &str); 1] = [("RUST_LOG", "trace")];

/// A bed whose spec has a token, a password in the pageserver's URL, and a role with a hash.
async fn plant(server: compute_ctl::dev::servers::Server) -> Bed {
    let mut bed = Bed::new(server).await;
    bed.spec.storage_auth_token = Some(TOKEN.to_owned());
    bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
    bed.safekeepers[0].behave(|it| it.password = Some(TOKEN.to_owned()));
    bed.spec.pageserver_connstring =
        bed.pageserver.connstring().replace("no_user@", "no_user:PLANTED-url-password@");
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", Some(HASH)).database("store", "ann");
    bed
}

fn assert_clean(compute: &Compute) {
    let log = compute.log();
    assert!(log.contains(" DEBUG "), "the level is not what the test is about\n{log}");
    let found: Vec<&str> = log.lines().filter(|line| line.contains(MARK)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn a_life_at_trace_level_tells_none() {
    on_every_server(|server| async {
        let mut bed = plant(server).await;
        // Postgres, too, is asked to say all it can.
        bed.spec
            .set("log_statement", "all")
            .set("log_min_duration_statement", "0")
            .set("log_duration", "on")
            .set("log_transaction_sample_rate", "1")
            .set("log_min_error_statement", "debug5");
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        let mut compute = bed.start_with_env(&TALKATIVE);
        compute.wait_for("running").await;
        let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'";
        assert_eq!(compute.sql_text(stored).await, HASH, "the planted one did arrive");
        assert_clean(&compute);

        bed.spec.roles.clear();
        bed.spec.role("ann", Some(OTHER_HASH)).role("bob", Some(HASH));
        let (code, answer) = compute.post("/configure", Some(&bed.configure_body())).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        assert!(!answer.to_string().contains(MARK), "{answer}");
        assert_clean(&compute);
        assert_eq!(compute.sql_text(stored).await, OTHER_HASH);

        let (code, _) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_clean(&compute);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn failed_starts_tell_none() {
    on_one_server(|server| async {
        let mut bed = plant(server).await;
        bed.pageserver.behave(|it| it.password = Some("another".to_owned()));
        let mut compute = bed.start_with_env(&TALKATIVE);
        compute.wait_for_log("JWT authentication error").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_clean(&compute);

        bed.pageserver.set_fault(Fault::Refuse, None);
        compute = bed.start_with_env(&TALKATIVE);
        compute.wait_for_log("(attempt 1/10)").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_clean(&compute);

        bed.safekeepers[0].behave(|it| it.password = Some("another".to_owned()));
        bed.wrapper.set_mode(SyncMode::Exit(1)).unwrap();
        compute = bed.start_with_env(&TALKATIVE);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("JWT authentication error") && !error.contains(MARK), "{error}");
        compute.dismiss().await;
        assert_clean(&compute);

        // A statement that fails, with a hash in it.
        bed.safekeepers[0].behave(|it| it.password = Some(TOKEN.to_owned()));
        bed.pageserver.clear_faults();
        bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
        bed.wrapper.set_mode(SyncMode::Ok).unwrap();
        bed.spec.set("log_statement", "all").set("log_min_error_statement", "debug5");
        bed.spec.role("pg_reserved", Some(HASH));
        compute = bed.start_with_env(&TALKATIVE);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("pg_reserved") && !error.contains(MARK), "{error}");
        compute.dismiss().await;
        assert_clean(&compute);

        // What cannot be used at all: a permanent failure, and a refused command line.
        bed.spec.pageserver_connstring = "host=a,b port=1,2,3 password=PLANTED".to_owned();
        bed.spec.member("shard_stripe_size", 2048.into());
        compute = bed.start_with_env(&TALKATIVE);
        compute.wait_exit().await;
        assert_clean_of_secrets(&compute);
        assert_nothing_left(&bed);
    })
    .await;
}

/// As [`assert_clean`], for a process that ended before it had anything to say at that level.
fn assert_clean_of_secrets(compute: &Compute) {
    assert!(!compute.log().contains(MARK), "{}", compute.log());
}
