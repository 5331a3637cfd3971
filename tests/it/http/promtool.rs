//! A scrape as Prometheus' own program and the page about metrics see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::assertions::{Family, assert_nothing_left, families, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// What `promtool` finds wrong, and we keep: the names are those of the original, whose users look
/// for them. Each has a twin in seconds.
const COMPLAINTS: [&str; 2] = [
    "compute_pg_current_downtime_ms metric names should not contain abbreviated units",
    "compute_pg_downtime_ms_total metric names should not contain abbreviated units",
];

/// Families of the page that this compute does not have, and why.
const ABSENT: [(&str, &str); 10] = [
    ("compute_ctl_cplane_requests_total", "it has no control plane"),
    ("compute_ctl_remote_ext_requests_total", "no extension is downloaded"),
    ("compute_ctl_db_migration_failed_total", "no migration fails"),
    ("pg_cctl_attached", "it is not in Lakebase mode"),
    ("compute_ctl_lsn_lease_expiry_timestamp_seconds", "it is a primary"),
    ("compute_ctl_tls_certificate_expiry_days", "it has no certificate"),
    ("compute_ctl_tls_certificate_expiry_timestamp_seconds", "it has no certificate"),
    ("compute_ctl_http_tls_certificate_expiry_timestamp_seconds", "it serves without TLS"),
    ("compute_ctl_http_tls_renewal_failures_total", "it serves without TLS"),
    ("compute_ctl_vm_monitor_", "it is not a virtual machine"),
];

/// The longest that `promtool` may take; it takes less than a second.
const LIMIT: Duration = Duration::from_secs(60);

async fn text(compute: &Compute) -> String {
    compute.get("/metrics").await.1.as_str().unwrap().to_owned()
}

/// Runs `promtool check metrics`; returns the lines of its complaints.
async fn complaints(scrape: &str) -> Vec<String> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/promtool");
    let program = if place.exists() { place } else { "promtool".into() };
    let mut command = Command::new(program);
    command.args(["check", "metrics"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[expect(clippy::disallowed_methods, reason = "the test reaps it itself")]
    let child = command.spawn();
    let mut child = child.expect("promtool cannot be run, deploy/prepare --tests installs it");
    let mut input = child.stdin.take().unwrap();
    input.write_all(scrape.as_bytes()).await.unwrap();
    drop(input);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    // 3: it could read everything and found something.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", output.status);
    said.lines().map(str::to_owned).collect()
}

/// Rows of the page's table: kind and meaning by name.
fn page() -> BTreeMap<String, (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.filter_map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        let [name, kind, _, meaning] = cells[..] else { return None };
        let name = name.trim_matches(['|', ' ', '`']).to_owned();
        Some((name, (kind.to_owned(), meaning.trim_end_matches(" |").to_owned())))
    });
    rows.collect()
}

#[tokio::test]
async fn prometheus_and_the_page_know_the_families() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        until("the extensions are collected", || async {
            text(&compute).await.contains("compute_installed_extensions{")
        })
        .await;
        let scrape = text(&compute).await;
        assert_eq!(complaints(&scrape).await, COMPLAINTS);
        // The check must be able to fail.
        let bad = "# HELP a_seconds x\n# TYPE a_seconds counter\na_seconds 1\n";
        assert!(!complaints(bad).await.is_empty());

        let (page, live) = (page(), families(&scrape));
        for Family { name, kind, help, .. } in &live {
            let row = page.get(name).unwrap_or_else(|| panic!("the page has no {name}"));
            assert_eq!((kind, help), (&row.0, &row.1), "{name}");
        }
        for name in page.keys() {
            let is_live = live.iter().any(|family| family.name == *name);
            let is_absent = ABSENT.iter().any(|(prefix, _)| name.starts_with(prefix));
            assert!(is_live != is_absent, "{name}: on the page, in the scrape: {is_live}");
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
