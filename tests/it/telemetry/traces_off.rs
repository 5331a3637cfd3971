//! Without traces: nothing is sent, and nothing is there that would send.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::collector::{CALLER, Collector, TRACE, TRACEPARENT};
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Threads that a compute has without traces; some end soon.
const THREADS: [&str; 5] =
    ["compute_ctl", "log-writer", "tokio-rt-worker", "notify-rs inoti", "trash"];

/// No other threads than those: a library for traces likes to start its own.
fn assert_threads(compute: &Compute) {
    let tasks = fs::read_dir(format!("/proc/{}/task", compute.pid())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    let names: Vec<_> = names.map(|name| name.trim().to_owned()).collect();
    assert!(names.iter().all(|name| THREADS.contains(&name.as_str())), "{names:?}");
}

#[tokio::test]
async fn disabled_means_nothing_at_all() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let document = answer(&bed, "attached", bed.spec.spec());
        let cplane = HttpStub::start(Reply::Answer(200, document.into())).await;
        let collector = Collector::start().await;
        let line = bed.args_for(&cplane.url());
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            let env = collector.env(&[off, ("TRACEPARENT", TRACEPARENT)]);
            let mut compute = Compute::spawn(&bed, &line, &env);
            bed.wait_running(&mut compute).await;
            assert_eq!(compute.configure(&bed).await.0.as_u16(), 200);
            assert_threads(&compute);
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_eq!(collector.stub.count(), 0, "{off:?}");
            assert_eq!(cplane.asked().last().unwrap().header("traceparent"), None);

            // Neither has one with traces.
            let mut compute = Compute::spawn(&bed, &line, &collector.env(&[]));
            bed.wait_running(&mut compute).await;
            collector.wait_for("start_compute").await;
            assert_threads(&compute);
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            collector.stub.forget();
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// The context goes on to others, who may record it.
#[tokio::test]
async fn a_trace_that_is_not_recorded_is_passed_on() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let document = answer(&bed, "attached", bed.spec.spec());
        let cplane = HttpStub::start(Reply::Answer(200, document.into())).await;
        let collector = Collector::start().await;
        let line = bed.args_for(&cplane.url());
        let unsampled = format!("00-{TRACE}-{CALLER}-00");
        for env in [
            collector.env(&[("TRACEPARENT", &unsampled)]),
            collector.env(&[("TRACEPARENT", TRACEPARENT), ("OTEL_TRACES_SAMPLER", "always_off")]),
        ] {
            let env = [&env[..], &[("OTEL_PROPAGATORS", "tracecontext")]].concat();
            let mut compute = Compute::spawn(&bed, &line, &env);
            // Without a poll, each of which would be a trace of its own.
            compute.wait_for_log("compute start finished").await;
            let sent = cplane.asked().last().unwrap().header("traceparent").unwrap();
            assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"), "{sent}");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert!(!collector.names().contains(&"start_compute".to_owned()));
        }
        assert_nothing_left(&bed);
    })
    .await;
}
