//! Requests to the collector, and collectors that are away, silent, slow or wrong (01 §24 no. 47).

use std::fs;
use std::io::Read as _;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::network::collector::{Collector, decoded};
use crate::support::network::{ClosedPort, HttpStub, Reply};
use crate::support::server::on_one_server;

const FAILURES: &str = "compute_ctl_trace_export_failures_total";
const WARNING: &str = "traces cannot be exported to";

#[tokio::test]
async fn headers_path_and_compression_are_as_wanted() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let collector = Collector::start().await;
        let mine = format!("{}/my/path?x=1", collector.stub.url());
        let env = collector.env(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &mine),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc,x-scope-orgid=7"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ]);
        let mut compute = bed.start_with_env(&env);
        bed.wait_running(&mut compute).await;
        let asked = collector.stub.wait_for(1).await;
        assert_eq!(asked.line, "POST /my/path?x=1");
        for (name, value) in [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "gzip"),
            ("authorization", "Bearer abc"),
            ("x-scope-orgid", "7"),
        ] {
            assert_eq!(asked.header(name).as_deref(), Some(value), "{name}");
        }
        // The exports are not traced themselves.
        assert_eq!(asked.header("traceparent"), None);
        let mut body = Vec::new();
        GzDecoder::new(asked.body.as_slice()).read_to_end(&mut body).unwrap();
        let spans = decoded(&body);
        assert_eq!(spans[0].resource["service.name"], "mine");
        let environment = fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(environment.contains("OTEL_SERVICE_NAME"), "{environment}");
        assert!(!environment.contains("Bearer"), "{environment}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        compute.assert_logged("OTEL_BSP_MAX_QUEUE_SIZE cannot be used", 1).await;
        assert!(!compute.log().contains("Bearer abc"), "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}

/// Starts with a bad collector; the compute starts, works and ends as with a good one.
async fn lives_with(bed: &Bed, endpoint: &str, what: &str) {
    let env = [
        ("OTEL_SDK_DISABLED", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let mut compute = bed.start_with_env(&env);
    bed.wait_running(&mut compute).await;
    // Each request is a span, so there is always something to export.
    until("several exports have failed", || async { compute.metric(FAILURES).await >= 2 }).await;
    let began = Instant::now();
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    // `--stop-timeout` is 7 s.
    assert!(began.elapsed() < Duration::from_secs(20), "{what}: {:?}", began.elapsed());
    compute.assert_logged(WARNING, 1).await;
    let log = compute.log();
    assert!(!log.contains(" ERROR "), "{what}: {log}");
    compute.forget_log();
    assert_nothing_left(bed);
}

#[tokio::test]
async fn bad_collectors_cost_one_warning_and_a_counter() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let closed = ClosedPort::reserve();
        lives_with(&bed, &format!("http://127.0.0.1:{}", closed.port()), "away").await;
        for (reply, what) in [
            (Reply::Answer(200, Vec::new()).held(), "silent"),
            (Reply::Answer(503, b"later".to_vec()), "busy"),
            (Reply::Answer(404, b"what?".to_vec()), "another server"),
            (Reply::Answer(307, Vec::new()), "a redirect"),
            (Reply::Stalled(vec![0; 1000]), "slow"),
            (Reply::Reset, "resets"),
        ] {
            let stub = HttpStub::start(reply).await;
            lives_with(&bed, &stub.url(), what).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_that_comes_back_gets_what_waits() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let collector = Collector::replying(Reply::Answer(503, Vec::new())).await;
        let mut compute = bed.start_with_env(&collector.env(&[]));
        bed.wait_running(&mut compute).await;
        compute.wait_for_log(WARNING).await;
        collector.stub.reply(Reply::Answer(200, Vec::new()));
        compute.wait_for_log("traces are exported again; 0 spans were dropped so far").await;
        collector.wait_for("start_compute").await;
        assert_eq!(compute.metric("compute_ctl_trace_spans_dropped_total").await, 0);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The end waits 2 s at most for a collector that does not answer.
#[tokio::test]
async fn the_end_does_not_wait_for_a_silent_one() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let collector = Collector::replying(Reply::Answer(200, Vec::new()).held()).await;
        // The limit of a request is 60 s.
        let env = collector.env(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")]);
        let mut compute = bed.start_with_env(&env);
        bed.wait_running(&mut compute).await;
        collector.stub.wait_for(1).await;
        let began = Instant::now();
        let (code, _) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
        compute.assert_logged("the last traces were not exported within 2s", 1).await;
        assert_nothing_left(&bed);
    })
    .await;
}
