//! Only testing builds can set the number of basebackup attempts (01 §2).

use compute_ctl::dev::pageserver::Fault;
#[cfg(not(feature = "testing"))]
use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

const VARIABLE: &str = "NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES";

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_testing_build_goes_by_the_variable() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.pageserver.set_fault(Fault::Error("no such thing".to_owned()), None);
        let mut compute = bed.start_with_env(&[(VARIABLE, "1")]);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("failed to get basebackup@"), "{error}");
        assert_eq!(bed.pageserver.journal().commands().len(), 2);
        compute.wait_for_log("(attempt 2/2)").await;
        compute.dismiss().await;

        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let refusal = crate::support::process::try_start(&bed, &line, &[(VARIABLE, "65536")]).await;
        assert!(refusal.error().contains(VARIABLE), "{}", refusal.error());
        assert_nothing_left(&bed);
    })
    .await;
}

#[cfg(not(feature = "testing"))]
#[tokio::test]
async fn a_release_does_not() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.pageserver.set_fault(Fault::Error("no such thing".to_owned()), Some(1));
        let mut compute = bed.start_with_env(&[(VARIABLE, "0")]);
        compute.wait_for("running").await;
        let log = compute.settled_log().await;
        assert!(log.contains("(attempt 1/11)"), "{log}");
        assert!(log.contains(&format!("{VARIABLE} is set, this is not a testing build")), "{log}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
