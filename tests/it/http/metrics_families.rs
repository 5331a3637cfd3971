//! `/metrics` (03 §10): every family, the rules of the format, and values that change.

use nix::sys::signal::Signal;

use crate::support::assertions::{Family, assert_nothing_left, families};
use crate::support::bed::Bed;
use crate::support::network::{ControlPlane, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Families that are always present: name, type, labels.
const ALWAYS: [(&str, &str, &[&str]); 10] = [
    ("compute_ctl_up", "gauge", &["build_tag", "status"]),
    ("compute_audit_log_dir_size", "gauge", &[]),
    ("compute_pg_current_downtime_ms", "gauge", &[]),
    ("compute_pg_downtime_ms_total", "counter", &[]),
    ("compute_ctl_lfc_prewarms_total", "counter", &[]),
    ("compute_ctl_lfc_prewarm_errors_total", "counter", &[]),
    ("compute_ctl_lfc_offloads_total", "counter", &[]),
    ("compute_ctl_lfc_offload_errors_total", "counter", &[]),
    ("pg_cctl_pagestream_request_errors_total", "counter", &[]),
    ("pg_cctl_configure_statement_timeout_errors_total", "counter", &[]),
];

async fn scrape(compute: &Compute) -> Vec<Family> {
    let (code, text) = compute.get("/metrics").await;
    assert_eq!(code.as_u16(), 200);
    families(text.as_str().unwrap())
}

fn family<'a>(families: &'a [Family], name: &str) -> &'a Family {
    let found = families.iter().find(|family| family.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

fn refresh_url(compute: &Compute) -> String {
    format!("{}/refresh_configuration", compute.internal)
}

/// The one sample of a family without labels.
fn value(families: &[Family], name: &str) -> f64 {
    let samples = &family(families, name).samples;
    assert_eq!(samples.len(), 1, "{name}");
    samples[0].value
}

#[tokio::test]
async fn all_families_from_the_first_scrape_on() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let scraped = scrape(&compute).await;
        // In the order of the document, before all others.
        let names: Vec<_> = scraped.iter().take(ALWAYS.len()).map(|it| it.name.as_str()).collect();
        assert_eq!(names, ALWAYS.map(|(name, ..)| name));
        for (name, kind, labels) in ALWAYS {
            let family = family(&scraped, name);
            assert_eq!(family.kind, kind, "{name}");
            assert!(family.help.len() > 10, "{name}: {}", family.help);
            assert_eq!(family.samples.len(), 1, "{name}");
            let sample = &family.samples[0];
            assert!(sample.labels.keys().eq(labels), "{name}: {sample:?}");
            let expected = if name == "compute_ctl_up" { 1.0 } else { 0.0 };
            assert_eq!(sample.value, expected, "{name}");
        }
        let labels = &family(&scraped, "compute_ctl_up").samples[0].labels;
        assert_eq!((labels["status"].as_str(), labels["build_tag"].as_str()), ("empty", "latest"));
        compute.wait_for_log("build tag latest").await;
        // Waiting for a spec does not count as a start.
        assert_eq!(value(&scraped, "compute_ctl_startup_seconds"), 0.0);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The parts of the start, and their sum, against `/metrics.json`.
#[tokio::test]
async fn the_parts_of_the_start_add_up() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None).database("store", "ann");
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let scraped = scrape(&compute).await;
        let total = value(&scraped, "compute_ctl_startup_seconds");
        let parts = &family(&scraped, "compute_ctl_startup_phase_seconds").samples;
        let sum: f64 = parts.iter().map(|part| part.value).sum();
        assert!((sum - total).abs() < 1e-6, "{sum} of {total}");
        let part = |name: &str| parts.iter().find(|part| part.labels["phase"] == name).unwrap();
        for name in ["basebackup", "start_postgres", "apply_catalog"] {
            assert!(part(name).value > 0.0, "{name}: {parts:?}");
        }
        assert_eq!(part("stale_processes").value, 0.0);
        assert!(part("other").value >= 0.0);
        let figures = compute.get("/metrics.json").await.1;
        let total_ms = figures["total_startup_ms"].as_f64().unwrap();
        assert!((total * 1e3 - total_ms).abs() < 50.0, "{total} s, {total_ms} ms");
        // The start is over and its duration does not grow any more.
        assert_eq!(value(&scrape(&compute).await, "compute_ctl_startup_seconds"), total);
        compute.wait_for_log("where the time went, in ms: certificate ").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Each call counts, whatever its answer; the status follows every transition.
#[tokio::test]
async fn refreshes_are_counted_and_the_status_follows() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let (http, url) = (compute.http.clone(), refresh_url(&compute));
        let refresh = async || http.post(&url).send().await.unwrap().status().as_u16();
        assert_eq!(refresh().await, 200);
        compute.wait_for("running").await;
        assert_eq!(refresh().await, 200);
        let count = value(&scrape(&compute).await, "pg_cctl_pagestream_request_errors_total");
        assert_eq!(count, 2.0);
        compute.wait_for("running").await;
        assert_eq!(compute.status_metric().await.as_deref(), Some("running"));

        // A failed refresh waits for the next attempt.
        std::fs::remove_file(bed.dir().join("config.json")).unwrap();
        assert_eq!(refresh().await, 200);
        compute.wait_for_log("could not refresh the configuration").await;
        compute.wait_for("refresh_configuration_pending").await;
        let status = compute.status_metric().await;
        assert_eq!(status.as_deref(), Some("refresh-configuration-pending"));
        let extra = compute.get("/status").await.1["extra"].clone();
        assert_eq!(extra["last_failure"]["phase"], "fetch_configuration", "{extra}");

        let (code, _) = compute.post("/terminate?mode=fast", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.status_metric().await.as_deref(), Some("terminated"));
        assert_eq!(refresh().await, 500, "refused");
        let count = value(&scrape(&compute).await, "pg_cctl_pagestream_request_errors_total");
        assert_eq!(count, 4.0, "and counted");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// One count for each attempt, with the status of its answer.
#[tokio::test]
async fn requests_to_the_control_plane_are_counted() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let attached = || (200, answer(&bed, "attached", bed.spec.spec()));
        let cplane = ControlPlane::start(vec![attached()]).await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ControlPlane::ENV);
        compute.wait_for("running").await;
        let counts = async |compute: &Compute| {
            let scraped = scrape(compute).await;
            let samples = family(&scraped, "compute_ctl_cplane_requests_total").samples.clone();
            let count = |it: &crate::support::assertions::Sample| {
                assert_eq!(it.labels["rpc"], "GetConfig");
                format!("{} {}", it.labels["http_status"], it.value)
            };
            samples.iter().map(count).collect::<Vec<_>>()
        };
        assert_eq!(counts(&compute).await, ["200 OK 1"]);
        // The control plane is out of order for a while.
        cplane.answer(vec![(503, String::new()), (502, String::new()), attached()]);
        compute.refresh().await;
        compute.wait_for_log("compute status from refresh-configuration to running").await;
        let all = ["200 OK 2", "502 Bad Gateway 1", "503 Service Unavailable 1"];
        assert_eq!(counts(&compute).await, all);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
