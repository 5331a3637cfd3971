//! The page about metrics lists every family that the program has.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use compute_ctl::state::ComputeStatus;
use compute_ctl::telemetry::metrics::{Attachment, InstalledExtension, Metrics, PhaseTimes};

use crate::generated::{check, path, read};

/// A scrape with every family. One with labels appears at its first event, so each has one here.
pub(crate) fn scrape() -> String {
    let metrics = Metrics::new().unwrap();
    metrics.set_status(ComputeStatus::Running);
    metrics.set_installed_extensions(&[InstalledExtension {
        name: "plpgsql".to_owned(),
        version: "1.0".to_owned(),
        owned_by_superuser: true,
        databases: 1,
    }]);
    metrics.count_cplane_request("GetConfig", None);
    metrics.count_remote_ext_request("postgis.tar.zst", None);
    metrics.count_failed_migration("1");
    metrics.set_attached(Attachment {
        compute_id: "",
        instance_id: "",
        tenant_id: "",
        timeline_id: "",
    });
    metrics.set_startup(Duration::ZERO, [("other", Duration::ZERO)]);
    metrics.start.declare(["other"]);
    metrics.start.set_phases([PhaseTimes { phase: "other", began: None, took: Duration::ZERO }]);
    metrics.set_certificate_expiry(Some(SystemTime::now().into()));
    metrics.http.set_certificate_expiry(0);
    metrics.http.renewal_failures();
    metrics.http.route("external", "/status", "GET").answered(200, Some(Duration::ZERO));
    let vm_monitor = metrics.vm_monitor().unwrap();
    vm_monitor.memory(0);
    vm_monitor.threshold(0);
    vm_monitor.cache_wanted(0);
    vm_monitor.cache(0);
    metrics.leases.granted("0000", "ps:6400", "0/1", SystemTime::now());
    metrics.render().unwrap()
}

/// A family as a scrape shows it.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    help: &'a str,
    pub(crate) kind: &'a str,
    labels: Vec<&'a str>,
}

pub(crate) fn families(scrape: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family> = Vec::new();
    for line in scrape.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.push(Family { name, help, kind: "", labels: Vec::new() });
            continue;
        }
        let family = families.last_mut().expect("HELP comes first");
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family.kind = rest.split_once(' ').unwrap().1;
        } else {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            assert!(name.starts_with(family.name), "{line}");
            let labels = labels.trim_end_matches('}').split("\",");
            let labels = labels.filter_map(|label| Some(label.split_once('=')?.0));
            // The bounds of a histogram are not labels of the family.
            family.labels = labels.filter(|label| *label != "le").collect();
        }
    }
    families
}

/// Names of families in the sources: in `metrics.rs` and files like `http_metrics.rs`.
fn names_in_the_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(path("src/telemetry")).unwrap() {
        let file = entry.unwrap().path();
        if !file.to_str().unwrap().ends_with("metrics.rs") {
            continue;
        }
        let source = read(file.to_str().unwrap());
        let source = source.split("#[cfg(test)]").next().unwrap();
        let texts = source.split('"').skip(1).step_by(2);
        let prefixes = ["compute_", "pg_cctl_", "process_"];
        let is_name = |text: &&str| {
            prefixes.iter().any(|prefix| text.starts_with(prefix))
                && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        names.extend(texts.filter(is_name).map(str::to_owned));
    }
    names
}

#[test]
fn the_page_lists_all_families() {
    let scrape = scrape();
    let families = families(&scrape);
    let shown: BTreeSet<_> = families.iter().map(|family| family.name.to_owned()).collect();
    assert_eq!(shown.len(), families.len(), "a family appears twice");
    // A family without an event in `scrape` would be missing on the page.
    assert_eq!(shown, names_in_the_sources());
    let mut text = String::from("| family | type | labels | meaning |\n|---|---|---|---|\n");
    for Family { name, help, kind, labels } in &families {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    check("docs/reference/metrics.md", &[("families".to_owned(), text)]);
}
