//! What the page shows, and that no text from outside becomes a part of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::phase::StartPhase;
use crate::node::{ComputeNode, ComputeParams};
use crate::os::children::Children;
use crate::services::monitor::activity::ActivityReason;
use crate::state::Event;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;

use super::*;

/// HTML, quotes, control characters, a change of direction.
const HOSTILE: &str = "<script>alert(1)</script>\"' onload=x \u{1b}[2J\u{202e}txt.\u{2066}<!--]]></pre></bdi></style>&lt;";

fn node() -> Arc<ComputeNode> {
    let log = LogSink::new(std::io::sink()).unwrap();
    let params =
        ComputeParams { compute_id: Some(HOSTILE.to_owned()), ..ComputeParams::for_tests() };
    ComputeNode::new(params, None, Children::new(), log, Metrics::new().unwrap()).0
}

fn page(node: &ComputeNode, log: &[String]) -> String {
    let line = |text: &String| Line {
        sequence: 1,
        at: chrono::Utc::now(),
        level: Level::WARN,
        source: Source::Postgres,
        message: text.as_str().into(),
    };
    let log: Vec<_> = log.iter().map(line).collect();
    render(Shown { details: &node.details(), log: &log, refresh: 5 })
}

/// Elements and characters that only the templates may write.
fn is_clean(page: &str) {
    for bad in
        ["<script", "alert(1)<", "onload=x \u{1b}", "<!--", "]]>", "\u{1b}", "\u{202e}", "\u{2066}"]
    {
        assert!(!page.contains(bad), "{bad:?} in {page}");
    }
    let count = |text: &str| page.matches(text).count();
    for element in ["pre", "bdi", "style", "section", "table", "td", "svg", "main", "body"] {
        let opened = count(&format!("<{element}>")) + count(&format!("<{element} "));
        assert_eq!(opened, count(&format!("</{element}>")), "{element}");
    }
    assert_eq!(count("<style>"), 1);
    assert!(!page.contains(" style=") && !page.contains("javascript:"));
}

#[test]
fn a_compute_without_a_spec() {
    let page = page(&node(), &[]);
    is_clean(&page);
    for part in [
        "<!DOCTYPE html>",
        "<title>empty · &lt;script&gt;",
        "</span>empty</h1>",
        "waits for /configure",
        "process started",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    for absent in ["<svg", "class=\"log\"", "In progress", "Failed"] {
        assert!(!page.contains(absent), "{absent}");
    }
}

#[test]
fn texts_from_outside_stay_texts() {
    let node = node();
    node.apply(Event::Configure).unwrap();
    node.begin_start().unwrap();
    let asking = node.tries.begin("pageserver", HOSTILE.to_owned(), Some(11));
    asking.failed(HOSTILE.to_owned(), Duration::from_secs(5));
    let _open = node.phase(StartPhase::Basebackup);
    let log = [HOSTILE.to_owned(), format!("{}{HOSTILE}", "y".repeat(590)), "x".repeat(1 << 20)];
    let starting = page(&node, &log);
    is_clean(&starting);
    for part in
        ["class=\"open\"", "1 of 11", "failed, next in", "alert(1)&lt;/script&gt;", "\\u{202e}txt"]
    {
        assert!(starting.contains(part), "{part}: {starting}");
    }
    assert!(starting.contains("… (1048576 bytes)") && starting.len() < 100_000);

    node.fail(format!("{HOSTILE}\n\nCaused by:\n    {}", "z".repeat(1 << 20))).unwrap();
    let failed = page(&node, &log);
    is_clean(&failed);
    for part in ["</span>failed</h1>", "class=\"alert\"", "Caused by:", "debug-a-failed-start.md"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    assert!(failed.len() < 100_000, "{}", failed.len());
}

/// As much as there can be: it stays small and quick.
#[test]
fn a_full_page_is_small() {
    let node = node();
    node.apply(Event::Configure).unwrap();
    node.begin_start().unwrap();
    for phase in StartPhase::ALL {
        drop(node.phase(phase));
    }
    node.apply(Event::Succeeded).unwrap();
    for _ in 0..20 {
        node.apply(Event::Configure).unwrap();
        node.apply(Event::BeginConfiguration).unwrap();
        node.apply(Event::Succeeded).unwrap();
    }
    node.refuse_document(None, HOSTILE.to_owned());
    let reasons = ["active_sessions", "idle_sessions", "replication"];
    let reasons =
        reasons.map(|reason| ActivityReason { reason, count: 3, last: chrono::Utc::now() });
    node.saw_activity_for_tests(reasons.to_vec());
    let end = std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    node.metrics.leases.granted("0 of 2", HOSTILE, "0/1", end);
    node.metrics.leases.refused("1 of 2", "ps-2", "0/1");
    let log: Vec<_> = (0..100).map(|n| format!("{n} {}", "line ".repeat(60))).collect();
    let began = Instant::now();
    let page = page(&node, &log);
    // 10 ms are the aim in a release build; a busy machine may take longer.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    is_clean(&page);
    assert!(page.len() < 100_000, "{}", page.len());
    for part in [
        "class=\"past\"",
        "active sessions",
        "apply_catalog",
        "reconfiguration (<bdi>/configure</bdi>)",
        "LSN leases",
        "2027-01-15 08:00:00 UTC",
        "refused",
        "99 line",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), StartPhase::ALL.len());
}

#[test]
fn reloading_can_be_stopped() {
    let details = node().details();
    let with = |refresh| render(Shown { details: &details, log: &[], refresh });
    assert!(with(7).contains("http-equiv=\"refresh\" content=\"7\""));
    let stopped = with(0);
    assert!(!stopped.contains("http-equiv") && stopped.contains("reload every 5 s"));
}

#[test]
fn the_policy_names_the_style() {
    let policy = content_security_policy();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"));
}
