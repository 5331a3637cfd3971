//! A pageserver that is not reachable, refuses, or requires a password.

use compute_ctl::dev::pageserver::{Fault, PageserverOptions, StandInPageserver};
use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::network::ClosedPort;
use crate::support::server::on_one_server;

#[tokio::test]
async fn one_that_comes_later_is_found() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let later = ClosedPort::reserve();
        bed.spec.pageserver_connstring = format!("postgresql://no_user@{}", later.address());
        let mut compute = bed.start();
        compute.wait_for_log("(attempt 2/11)").await;
        let log = compute.settled_log().await;
        let words = format!("cannot connect to pageserver {}: Connection refused", later.address());
        assert!(log.contains(&words), "{log}");
        assert_eq!(compute.get("/status").await.1["status"], "init");

        let options =
            PageserverOptions { archive: bed.archive(), port: later.port(), password: None };
        let pageserver = StandInPageserver::start(options).await.unwrap();
        compute.wait_for("running").await;
        let command = bed.basebackup_command(Some(LSN_TEXT));
        assert_eq!(pageserver.journal().commands(), [command]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// All attempts take a minute; three of them show how it continues.
#[tokio::test]
async fn one_that_never_works_is_asked_again_and_again_until_a_signal() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.pageserver.set_fault(Fault::Error("no such thing".to_owned()), None);
        let mut compute = bed.start();
        compute.wait_for_log("(attempt 3/11)").await;
        let journal = bed.pageserver.journal();
        assert!(journal.commands().len() >= 3);
        assert_eq!(journal.connections(), journal.commands().len(), "a connection for each try");
        let status = compute.get("/status").await.1;
        assert_eq!((&status["status"], &status["error"]), (&"init".into(), &().into()));
        let log = compute.settled_log().await;
        assert_eq!(
            log.matches("Failed to get basebackup: the pageserver answers: no such thing").count(),
            3,
            "{log}"
        );
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(bed.wrapper.calls().unwrap(), []);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_tried_again_and_none_at_all_is_not() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.pageserver.behave(|it| it.password = Some("in-the-url".to_owned()));
        let journal = bed.pageserver.journal();

        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        assert!(error.contains("password missing: pageserver 127.0.0.1:"), "{error}");
        assert_eq!(journal.connections(), 1, "another try would end the same way");
        compute.dismiss().await;
        bed.forget_journals();

        // The token takes precedence over the password in the URL. Both sides may learn of a new
        // one at different times, so after a refusal the compute tries again.
        let url = bed.pageserver.connstring().replace("no_user@", "no_user:in-the-url@");
        bed.spec.pageserver_connstring = url;
        bed.spec.storage_auth_token = Some("new-token".to_owned());
        compute = bed.start();
        eventually("the token is refused", || !journal.passwords().is_empty()).await;
        compute.wait_for_log("JWT authentication error").await;
        bed.pageserver.behave(|it| it.password = Some("new-token".to_owned()));
        compute.wait_for("running").await;
        assert!(journal.passwords().iter().all(|it| it == "new-token"));
        assert_eq!(journal.commands(), [bed.basebackup_command(Some(LSN_TEXT))]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        bed.forget_journals();

        bed.pageserver.behave(|it| it.password = Some("in-the-url".to_owned()));
        bed.spec.storage_auth_token = None;
        compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(journal.passwords(), ["in-the-url"]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
