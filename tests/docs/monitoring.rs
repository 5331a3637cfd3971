//! The files in deploy that let a compute be seen: the dashboard and the alert rules use metrics that
//! exist, Prometheus' own program accepts the rules and their tests, and traces are off.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::generated::{path, read};
use crate::metrics::{families, scrape};

const ALERTS: &str = "deploy/monitoring/alerts.yaml";
const PAGE: &str = "docs/how-to/monitoring.md";

/// Names of series: those of a histogram have suffixes.
fn series() -> BTreeSet<String> {
    let scrape = scrape();
    let names = families(&scrape).into_iter().flat_map(|family| {
        let suffixes: &[&str] = match family.kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        suffixes.iter().map(move |suffix| format!("{}{suffix}", family.name)).collect::<Vec<_>>()
    });
    names.chain(["up".to_owned()]).collect()
}

/// Names in a PromQL expression that are those of metrics: they stand outside of braces and
/// brackets, and are not functions, operators or labels of `by`.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let mut rest = expression.to_owned();
    // Labels, ranges and texts.
    for (open, close) in [('{', '}'), ('[', ']'), ('"', '"')] {
        while let Some((before, after)) = rest.split_once(open) {
            let (_, after) = after.split_once(close).unwrap_or_else(|| panic!("{expression}"));
            rest = format!("{before} {after}");
        }
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = rest.split(|c: char| !is_part(c)).filter(|word| !word.is_empty());
    let prefixes = ["compute_", "pg_cctl_", "process_", "up"];
    let mut names = BTreeSet::new();
    for word in words {
        if prefixes.iter().any(|prefix| word.starts_with(prefix)) {
            names.insert(word.to_owned());
        }
    }
    names
}

#[test]
fn metrics_are_found_in_expressions() {
    let found = metrics_in(
        r#"sum by (status) (rate(compute_a{up="compute_b"}[5m] offset 1m)) / on (job) up > 0"#,
    );
    assert_eq!(found, ["compute_a".to_owned(), "up".to_owned()].into());
}

/// Panels of all rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap();
    let nested = panels.iter().flat_map(|panel| panel["panels"].as_array().into_iter().flatten());
    panels.iter().chain(nested).collect()
}

/// Ids of Grafana's units (`valueFormats`) that panels use.
const UNITS: [&str; 6] = ["bytes", "ops", "percentunit", "reqps", "s", "short"];
/// Ids of Grafana's own panels that the dashboard uses.
const KINDS: [&str; 4] = ["barchart", "stat", "table", "timeseries"];

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    for (member, is_right) in [
        ("title", dashboard["title"].is_string()),
        ("uid", dashboard["uid"].is_string()),
        ("schemaVersion", dashboard["schemaVersion"].as_u64() >= Some(36)),
        ("time", dashboard["time"]["from"].is_string() && dashboard["time"]["to"].is_string()),
        ("id", dashboard["id"].is_null()),
    ] {
        assert!(is_right, "{member}: {}", dashboard[member]);
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);

    let (series, mut used, mut ids) = (series(), BTreeSet::new(), BTreeSet::new());
    let mut taken = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|it| place[it].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: {place}");
        for column in x..x + w {
            for line in y..y + h {
                assert!(taken.insert((column, line)), "{title} lies on another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{title}: no description");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        assert!(UNITS.contains(&unit), "{title}: {unit:?} is not a unit that Grafana knows");
        let kind = panel["type"].as_str().unwrap();
        assert!(KINDS.contains(&kind), "{title}: {kind}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        let mut letters = BTreeSet::new();
        for target in targets {
            assert!(letters.insert(target["refId"].as_str().unwrap()), "{title}");
            let expression = target["expr"].as_str().unwrap();
            let names = metrics_in(expression);
            assert!(!names.is_empty(), "{title}: {expression}");
            for name in names {
                assert!(series.contains(&name), "{title}: there is no {name}");
                // The variables choose the computes.
                let chosen = format!(r#"{name}{{job=~"$job", instance=~"$instance""#);
                let all = expression.matches(&name).count();
                assert_eq!(expression.matches(&chosen).count(), all, "{title}: {expression}");
                used.insert(name);
            }
        }
    }
    for wanted in [
        "compute_ctl_startup_phase_seconds",
        "compute_ctl_startup_seconds",
        "compute_ctl_start_failures_total",
        "compute_ctl_postgres_current_downtime_seconds",
        "compute_ctl_last_activity_timestamp_seconds",
        "compute_ctl_apply_duration_seconds_bucket",
        "compute_ctl_http_request_duration_seconds_bucket",
        "compute_ctl_storage_tries_total",
        "process_resident_memory_bytes",
        "compute_ctl_http_tls_certificate_expiry_timestamp_seconds",
        "compute_ctl_http_tls_renewal_failures_total",
    ] {
        assert!(used.contains(wanted), "no panel shows {wanted}");
    }
}

/// The rules: name and text of each.
fn rules(text: &str) -> Vec<(&str, &str)> {
    let rules = text.split("- alert: ").skip(1);
    rules.map(|rule| rule.split_once('\n').unwrap()).collect()
}

/// The expression of a rule, on one line or several.
fn expression(rule: &str) -> String {
    let (_, rest) = rule.split_once("expr: ").unwrap();
    let lines = rest.lines().take_while(|line| !line.trim_start().starts_with("labels:"));
    lines.filter(|line| !line.trim_start().starts_with("for:")).collect()
}

#[test]
fn the_alert_rules_use_metrics_that_exist() {
    let (text, series) = (read(ALERTS), series());
    let rules = rules(&text);
    assert!(rules.len() > 8);
    let tests = read("deploy/monitoring/alerts.test.yaml");
    let page = read(PAGE);
    for (name, rule) in rules {
        let names = metrics_in(&expression(rule));
        assert!(!names.is_empty(), "{name}");
        for metric in names {
            assert!(series.contains(&metric), "{name}: there is no {metric}");
        }
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let link = format!("runbook_url: {PAGE}#{}", name.to_lowercase());
        assert!(rule.contains(&link), "{name}: {link}");
        assert!(page.contains(&format!("\n### {name}\n")), "{PAGE} has no section {name}");
        // Each fires in one test and does not in another.
        let begin = format!("alertname: {name}\n");
        let ends = tests.split(&begin).skip(1);
        let ends: BTreeSet<_> =
            ends.map(|end| end.trim_start().starts_with("exp_alerts: []")).collect();
        assert_eq!(ends, [false, true].into(), "{name}: one test must fire, another one not");
    }
}

/// Runs `promtool`, from `PATH` or where `deploy/prepare --tests` puts it.
fn promtool(args: &[&str]) {
    let place = path(".tools/promtool");
    let program = if place.exists() { place } else { "promtool".into() };
    let output = Command::new(program).args(args).current_dir(path("deploy/monitoring")).output();
    let output = output.expect("promtool cannot be run, deploy/prepare --tests installs it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {}\n{said}", output.status);
    assert!(said.contains("SUCCESS"), "{said}");
}

/// Each expression as a rule of its own; the variables of Grafana have values as it gives them.
#[test]
fn prometheus_accepts_the_expressions_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap();
    let mut rules = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut expression = target["expr"].as_str().unwrap().to_owned();
            for (variable, value) in [
                ("$__rate_interval", "1m"),
                ("$__range", "6h"),
                ("$__interval", "15s"),
                ("$job", "compute_ctl"),
                ("$instance", "compute-1:3080|compute-2:3080"),
            ] {
                expression = expression.replace(variable, value);
            }
            assert!(!expression.contains('$'), "{expression}: a variable without a value");
            let number = rules.len();
            rules.push(json!({"record": format!("dashboard:{number}"), "expr": expression}));
        }
    }
    assert!(rules.len() > 40, "{}", rules.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()]);
}

#[test]
fn prometheus_accepts_the_alert_rules() {
    promtool(&["check", "rules", "alerts.yaml"]);
}

#[test]
fn each_alert_fires_when_it_should() {
    promtool(&["test", "rules", "alerts.test.yaml"]);
}

/// Without a collector each start would log a warning, so nothing in deploy exports traces by itself.
#[test]
fn nothing_in_deploy_exports_traces_unasked() {
    for (file, line) in [
        ("deploy/container/compose.yaml", "environment: {OTEL_SDK_DISABLED: \"true\"}"),
        ("deploy/systemd/compute_ctl.service", "Environment=OTEL_SDK_DISABLED=true"),
        ("deploy/systemd/compute_ctl@.service", "Environment=OTEL_SDK_DISABLED=true"),
        ("deploy/kubernetes/base/kustomization.yaml", "- OTEL_SDK_DISABLED=true"),
    ] {
        let text = read(file);
        assert!(text.lines().any(|it| it.trim() == line), "{file} has no line {line:?}");
    }
    // The file with the variables replaces those of the units.
    for unit in ["compute_ctl.service", "compute_ctl@.service"] {
        let text = read(&format!("deploy/systemd/{unit}"));
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{unit}: {part}"));
        assert!(place("OTEL_SDK_DISABLED") < place("EnvironmentFile="), "{unit}");
    }
}
