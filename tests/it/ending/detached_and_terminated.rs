//! A `/terminate` that meets a refresh which finds the compute detached: the first one decides the
//! end, and each is answered (01 §13.3, §18.1).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const DETACHED: &str = "this compute is detached";

fn without_spec() -> Value {
    json!({"spec": null, "compute_ctl_config": {"jwks": {"keys": []}}})
}

fn start(bed: &Bed, control_plane: &HttpStub) -> Compute {
    Compute::spawn(bed, &bed.args_for(&control_plane.url()), &[])
}

/// Sends the request without waiting for the answer.
#[tokio::test]
async fn while_the_control_plane_is_asked_the_end_wins() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let document = |status, spec| answer(&bed, status, spec).into_bytes();
        let attached = Reply::Answer(200, document("attached", bed.spec.spec()));
        let control_plane = HttpStub::start(attached).await;
        let mut compute = start(&bed, &control_plane);
        bed.wait_running(&mut compute).await;
        control_plane.reply(Reply::Answer(200, document("empty", Value::Null)).held());
        compute.refresh().await;
        control_plane.wait_for(2).await;
        let terminated = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(terminated, (StatusCode::OK, json!({"lsn": LSN_TEXT})));
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_eq!(compute.count_in_log(DETACHED), 0, "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}

/// Both at once. Between the result of a refresh and its effect a request can still be accepted. It
/// is answered, too, but without an LSN, because no sync runs.
#[tokio::test]
async fn at_the_same_moment_one_of_them_wins() {
    on_one_server(|server| async move {
        for _ in 0..8 {
            let bed = Bed::new(server.clone()).await;
            bed.fake_postgres();
            let document = |status, spec| answer(&bed, status, spec).into_bytes();
            let attached = Reply::Answer(200, document("attached", bed.spec.spec()));
            let control_plane = HttpStub::start(attached).await;
            let mut compute = start(&bed, &control_plane);
            bed.wait_running(&mut compute).await;
            control_plane.reply(Reply::Answer(200, document("empty", Value::Null)).held());
            compute.refresh().await;
            control_plane.wait_for(2).await;
            let terminate =
                compute.http.post(format!("{}/terminate?mode=immediate", compute.external));
            let release = async { control_plane.release() };
            let (answer, ()) = tokio::join!(terminate.send(), release);
            let (status, body) = match answer {
                Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap()),
                // The compute had ended.
                Err(_) => (0, Value::Null),
            };
            let code = compute.wait_exit().await.code().unwrap();
            let log = compute.log();
            println!("{status} {body}, exit code {code}");
            match (status, &body["lsn"], code) {
                (200, Value::String(_), 0) => assert!(!log.contains(DETACHED), "{log}"),
                (200 | 201, Value::Null, 1) | (0 | 412, _, 1) => {
                    assert!(log.contains(DETACHED), "{log}");
                    assert_eq!(bed.wrapper.calls().unwrap(), [], "{log}");
                }
                _ => panic!("{status} {body}, exit code {code}\n{log}"),
            }
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn once_it_is_detached_it_ends_already() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let postmaster = Pid::from_raw(compute.postmaster());
        kill(postmaster, Signal::SIGSTOP).unwrap();
        bed.write("config.json", &without_spec());
        compute.refresh().await;
        compute.until_status("termination_pending_immediate").await;
        let refusal = json!({"error": "invalid compute status: termination-pending-immediate"});
        let refused = compute.post("/terminate", None).await;
        assert_eq!(refused, (StatusCode::PRECONDITION_FAILED, refusal));
        kill(postmaster, Signal::SIGCONT).unwrap();
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}

/// Storage is gone, so Postgres gets no time for a checkpoint.
#[tokio::test]
async fn in_lakebase_mode_it_leaves_at_once() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let document = |status, spec| answer(&bed, status, spec).into_bytes();
        let attached = Reply::Answer(200, document("attached", bed.spec.spec()));
        let control_plane = HttpStub::start(attached).await;
        let mut args = bed.args_for(&control_plane.url());
        args.extend(["--lakebase-mode", "true"].map(str::to_owned));
        let mut compute = Compute::spawn(&bed, &args, &[]);
        bed.wait_running(&mut compute).await;
        control_plane.reply(Reply::Answer(200, document("empty", Value::Null)));
        compute.refresh().await;
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        let log = compute.log();
        assert!(log.contains("sending SIGQUIT") && !log.contains("sending SIGINT"), "{log}");
        assert_nothing_left(&bed);
    })
    .await;
}
