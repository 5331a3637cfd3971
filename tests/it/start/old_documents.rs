//! Documents of other years and other control planes: bare specs, and safekeepers in other forms than
//! `host:port`.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Marked, check};
use crate::support::server::on_one_server;

/// As an operator sends it: URLs in the list, the plain list for Postgres in the settings.
#[tokio::test]
async fn safekeepers_in_other_forms_are_left_to_the_full_sync() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let address = bed.safekeepers[0].address();
        bed.spec.set("neon.safekeepers", &address);
        for entry in [format!("postgresql://postgres:planted@{address}"), format!(" {address}")] {
            bed.spec.safekeeper_connstrings = vec![entry];
            let config = bed.write("config.json", &bed.spec.config()).display().to_string();
            let checked = check(&["-c", &config]).await;
            assert!(checked.good().contains("warning: safekeeper no. 1 is not"), "{checked:?}");

            let mut compute = bed.start_with_env(&[("RUST_LOG", "info,verbos=")]);
            compute.wait_for("running").await;
            let log = compute.settled_log().await;
            assert!(log.contains("the quick check of the safekeepers is skipped"), "{log}");
            assert!(log.contains("parts of RUST_LOG have no effect: \"verbos=\""), "{log}");
            assert!(!log.contains("planted"), "{log}");
            assert_eq!(bed.wrapper.calls().unwrap().len(), 1, "{log}");
            assert_eq!(bed.safekeepers[0].journal().connections(), 0);
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            bed.forget_journals();
        }
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_bare_spec_of_its_time_is_used() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut spec = bed.spec.spec();
        let members = spec.as_object_mut().unwrap();
        members.remove("suspend_timeout_seconds").unwrap();
        members.insert("timestamp".to_owned(), json!("2022-10-12T18:00:00.000Z"));
        members.insert("delta_operations".to_owned(), json!([]));
        members["cluster"]["state"] = json!("restarted");
        let path = bed.write("spec.json", &spec).display().to_string();
        assert_eq!(check(&["-S", &path, "--strict"]).await.code, Some(0));
        let mut compute = bed.start_with(&["-S", &path]);
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The spec comes later, and names another port than `--connstr`.
#[tokio::test]
async fn another_port_than_that_of_the_command_line_touches_nothing() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        bed.spec.typed("port", "1", "integer");
        let (code, answer) = compute.configure(&bed).await;
        assert_ne!(code, 200, "{answer}");
        let expected = format!("names port {}, but Postgres will listen on port 1", bed.port);
        assert!(answer.to_string().contains(&expected), "{answer}");
        marked.assert_untouched();
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
