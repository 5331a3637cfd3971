//! The configuration from a control plane.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::{ControlPlane, answer};
use crate::support::process::{Compute, Marked, try_start};
use crate::support::server::on_one_server;

#[tokio::test]
async fn an_attached_compute_starts() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let cplane = ControlPlane::start(vec![
            (503, "later".to_owned()),
            (200, answer(&bed, "attached", bed.spec.spec())),
        ])
        .await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        let seen = compute.wait_for("running").await;
        assert!(!seen.contains(&"empty".to_owned()), "{seen:?}");
        assert_eq!(cplane.asked(), [ControlPlane::QUESTION; 2]);
        // The extension in Postgres sends the same token.
        let environment = std::fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        let wanted = format!("NEON_CONTROL_PLANE_TOKEN={}", ControlPlane::TOKEN);
        assert!(environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes()));
        assert!(!compute.log().contains(ControlPlane::TOKEN), "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_unattached_compute_waits_for_its_spec() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let cplane = ControlPlane::start(vec![(200, answer(&bed, "empty", Value::Null))]).await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        compute.wait_for("empty").await;
        assert_eq!(cplane.asked(), [ControlPlane::QUESTION]);
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("running")), "{answer}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn without_a_usable_answer_nothing_starts() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let mut bad_spec = bed.spec.spec();
        bad_spec["tenant_id"] = json!("51b0");
        let cases = [
            ((404, String::new()), 1, "the control plane answered 404"),
            ((401, String::new()), 1, "the control plane answered 401"),
            ((500, String::new()), 1, "the control plane answered 500"),
            ((200, "{".to_owned()), 3, "Exhausted all attempts"),
            ((200, answer(&bed, "attached", bad_spec)), 3, "spec.tenant_id: "),
        ];
        for (answer, tries, text) in cases {
            let cplane = ControlPlane::start(vec![answer]).await;
            let refusal = try_start(&bed, &cplane.args(&bed), &ControlPlane::ENV).await;
            assert!(refusal.error().contains(text), "{}", refusal.stderr);
            if !text.starts_with("spec.") {
                let asked = format!("(http://{} about compute ", cplane.address());
                assert!(refusal.error().contains(&asked), "{}", refusal.stderr);
            }
            assert!(!refusal.stderr.contains(ControlPlane::TOKEN), "{}", refusal.stderr);
            assert_eq!(cplane.asked(), vec![ControlPlane::QUESTION; tries], "{text}");
        }
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}

/// A control plane that is being restarted, and one that has not decided yet: the original gives up
/// after 0.3 s, or at once (09 §10 nos. 1 and 5).
#[tokio::test]
async fn what_will_pass_is_outlasted() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut answers = vec![(503, "later".to_owned()), (502, String::new())];
        answers.extend(vec![(200, answer(&bed, "attached", Value::Null)); 2]);
        answers.push((200, answer(&bed, "attached", bed.spec.spec())));
        let cplane = ControlPlane::start(answers).await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        compute.wait_for("running").await;
        assert_eq!(cplane.asked(), [ControlPlane::QUESTION; 5]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// 09 §2.2: a pool compute that was configured once and is started again asks the control plane and
/// starts by itself.
#[tokio::test]
async fn a_pool_compute_starts_by_itself_the_second_time() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let cplane = ControlPlane::start(vec![(200, answer(&bed, "empty", Value::Null))]).await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        compute.wait_for("empty").await;
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        assert_eq!(compute.stop(Signal::SIGKILL).await, -1);
        cplane.answer(vec![(200, answer(&bed, "attached", bed.spec.spec()))]);
        compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        let seen = compute.wait_for("running").await;
        assert!(!seen.contains(&"empty".to_owned()), "{seen:?}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// 09 §11 nos. 11 and 12.
#[tokio::test]
async fn a_refresh_asks_again() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let attached = |bed: &Bed| (200, answer(bed, "attached", bed.spec.spec()));
        let cplane = ControlPlane::start(vec![attached(&bed)]).await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        bed.wait_running(&mut compute).await;
        let moved = "postgresql://no_user@127.0.0.1:1";
        bed.spec.pageserver_connstring = moved.to_owned();
        // A refresh has its own, shorter limit.
        cplane.answer(vec![(503, String::new()), attached(&bed)]);
        compute.refresh().await;
        compute.wait_for_log("compute status from refresh-configuration to running").await;
        compute.wait_for_sql("SHOW neon.pageserver_connstring", moved).await;
        assert_eq!(cplane.asked(), [ControlPlane::QUESTION; 3]);

        // Attached without a spec is not a usable answer; `empty` means detached.
        cplane.answer(vec![(200, answer(&bed, "attached", Value::Null))]);
        compute.refresh().await;
        compute.wait_for_log("could not refresh the configuration").await;
        let (_, status) = compute.get("/status").await;
        let error = status["error"].as_str().unwrap();
        for part in ["phase fetch_configuration", "compute is attached, but spec is empty"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!compute.log().contains(ControlPlane::TOKEN), "{}", compute.log());
        cplane.answer(vec![(200, answer(&bed, "empty", Value::Null))]);
        compute.refresh().await;
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}
