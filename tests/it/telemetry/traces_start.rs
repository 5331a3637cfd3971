//! The trace of a start (01 §21): where it belongs to, and its parts.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::collector::{
    CALLER, CLIENT, Collector, INTERNAL, SERVER, TRACE, TRACEPARENT,
};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

#[tokio::test]
async fn the_environment_names_its_place_and_each_phase_is_a_part() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        let collector = Collector::start().await;
        let env = collector.env(&[
            ("TRACEPARENT", TRACEPARENT),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=it"),
            ("COMPUTE_CTL_LOG_FORMAT", "json"),
        ]);
        let mut compute = bed.start_with_env(&env);
        bed.wait_running(&mut compute).await;
        let start = collector.wait_for("start_compute").await;
        assert_eq!((start.trace.as_str(), start.parent.as_str()), (TRACE, CALLER));
        assert_eq!((start.kind, &start.error), (INTERNAL, &None));
        for (name, value) in [
            ("compute.id", "c1"),
            ("compute.mode", "Primary"),
            ("neon.tenant_id", &bed.spec.tenant_id),
            ("neon.timeline_id", &bed.spec.timeline_id),
        ] {
            assert_eq!(start.attributes[name].to_lowercase(), value.to_lowercase(), "{name}");
        }
        assert_eq!(start.resource["service.name"], "compute_ctl");
        assert_eq!(start.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(start.resource["deployment.environment"], "it");

        let phases = compute.get("/metrics").await.1;
        let phases = phases.as_str().unwrap().lines();
        let phases = phases.filter_map(|line| {
            let rest = line.strip_prefix("compute_ctl_startup_phase_seconds{phase=\"")?;
            // Phases that this start did not need are 0.
            let (phase, value) = rest.split_once("\"} ")?;
            (value != "0").then(|| phase.to_owned())
        });
        let phases: Vec<_> = phases.filter(|phase| phase != "other").collect();
        assert!(phases.len() >= 5 && phases.contains(&"basebackup".to_owned()), "{phases:?}");
        for phase in &phases {
            let span = collector.wait_for(phase).await;
            assert_eq!((&span.trace, &span.parent), (&start.trace, &start.id), "{phase}");
            assert_eq!((span.kind, &span.error), (INTERNAL, &None), "{phase}");
        }
        for (name, parent, kind) in
            [("pageserver basebackup", "basebackup", CLIENT), ("apply", "apply_catalog", INTERNAL)]
        {
            let (span, parent) = (collector.wait_for(name).await, collector.wait_for(parent).await);
            assert_eq!((&span.parent, span.kind), (&parent.id, kind), "{name}");
        }

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        // Lines of the log name the trace that they belong to.
        let log = compute.log();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let began = lines.filter(|it| it["message"].as_str().unwrap().starts_with("phase "));
        let traces: Vec<_> =
            began.map(|it| (it["trace_id"].clone(), it["span_id"].clone())).collect();
        assert!(traces.len() >= 5, "{log}");
        assert!(
            traces.iter().all(|(trace, span)| trace == TRACE && span.is_string()),
            "{traces:?}"
        );
        // The end is exported, too.
        let end = collector.wait_for("shutdown").await;
        assert_eq!((end.parent.as_str(), &*end.attributes["compute.ending"]), ("", "signal"));
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_start_by_configure_is_a_part_of_the_request() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let collector = Collector::start().await;
        let config = serde_json::json!({"compute_ctl_config": {"jwks": {"keys": []}}});
        let config = bed.write("config.json", &config).display().to_string();
        let mut line = bed.base_args();
        line.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
        // The request counts before the environment.
        let other = TRACEPARENT.replace(TRACE, "11111111111111111111111111111111");
        let env = collector.env(&[("TRACEPARENT", &other)]);
        let mut compute = Compute::spawn(&bed, &line, &env);
        compute.wait_for("empty").await;
        let request = compute.http.post(format!("{}/configure", compute.external));
        let request = request.header("traceparent", TRACEPARENT).header("x-request-id", "r1");
        let request = request.header("content-type", "application/json");
        let answer = request.body(bed.configure_body().to_string()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);

        let request = collector.wait_for("POST /configure").await;
        assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, CALLER));
        assert_eq!((request.kind, &request.error), (SERVER, &None));
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.route", "/configure"),
            ("url.path", "/configure"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &bed.external_port.to_string()),
            ("request_id", "r1"),
        ] {
            assert_eq!(request.attributes[name], value, "{name}");
        }
        let start = collector.wait_for("start_compute").await;
        assert_eq!((&*start.trace, &start.parent), (TRACE, &request.id));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_failed_start_without_a_place_is_a_root_with_its_error() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("pg_reserved", None);
        let collector = Collector::start().await;
        let mut compute = bed.start_with_env(&collector.env(&[]));
        let error = compute.wait_for_failure().await;
        assert!(error.contains("pg_reserved"), "{error}");
        let start = collector.wait_for("start_compute").await;
        assert_eq!(start.parent, "");
        let told = start.error.unwrap();
        assert!(told.contains("pg_reserved") && !told.contains('\n'), "{told}");
        let phase = collector.wait_for("apply_catalog").await;
        assert_eq!(phase.error.as_ref(), Some(&told));
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}
