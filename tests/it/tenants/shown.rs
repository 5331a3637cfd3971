//! Texts that tenants choose are shown to operators: on the page, by the client, in the log and in
//! metrics. None of them is obeyed by a browser or a terminal, or looks like a line of its own.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::assertions::{assert_nothing_left, families, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, client};
use crate::support::server::on_one_server;

/// HTML, and what clears a screen; the second line looks like one of the log.
const MARKUP: &str = "<script>alert(1)</script>\u{1b}[2J\n2026-01-01T00:00:00Z forged";
/// Changes of direction, the one-byte form of an escape, and what looks like a metric.
const TURNED: &str = "\u{202e}\u{2066}\u{9b}31m\r\nforged{x=\"1\"} 1\u{7}";

/// Whether a terminal or a browser obeys it.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && !"\n\t".contains(c)) || ('\u{202a}'..='\u{206f}').contains(&c)
}

#[track_caller]
fn is_harmless(what: &str, text: &str) {
    for line in text.lines() {
        assert!(!line.contains(is_obeyed), "{what}: {line:?}");
        let forged = line.starts_with("forged") || line.starts_with("2026-01-01");
        assert!(!forged, "{what}: {line:?}");
    }
}

async fn inside(compute: &Compute, path: &str) -> String {
    let answer = compute.http.get(format!("{}{path}", compute.internal)).send().await.unwrap();
    answer.text().await.unwrap()
}

/// The log, except for characters that change the direction: Postgres' text is not changed.
#[track_caller]
fn log_is_harmless(log: &str, is_json: bool) {
    let without = log.replace(|c| ('\u{202a}'..='\u{206f}').contains(&c), "");
    is_harmless("the log", &without);
    for line in log.lines().filter(|_| is_json) {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let message = record["message"].as_str().unwrap();
        assert!(!message.starts_with("forged") && !message.starts_with("2026-01-01"), "{line}");
    }
}

#[tokio::test]
async fn hostile_names_and_messages_are_text() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role(MARKUP, None).role(TURNED, None);
        bed.spec.database(TURNED, MARKUP).database(MARKUP, TURNED);
        bed.spec.set("log_line_prefix", "%m [%p] %q%u@%d/%a ");
        bed.spec.set("log_connections", "on");
        for format in ["text", "json"] {
            let mut compute = bed.start_with_env(&[("COMPUTE_CTL_LOG_FORMAT", format)]);
            compute.wait_for("running").await;
            let session = compute.session_in(TURNED).await;
            for text in [MARKUP, TURNED, &"<b>y</b>\u{1b}]0;".repeat(1 << 16)] {
                let name: String = text.chars().take(60).collect();
                session.batch_execute(&format!("SET application_name = $n${name}$n$")).await.ok();
                let raise = "DO $d$ BEGIN RAISE LOG '%', $m$TEXT$m$; END $d$";
                session.batch_execute(&raise.replace("TEXT", text)).await.unwrap();
            }
            session.batch_execute("DO $$ BEGIN RAISE LOG 'the last one'; END $$").await.unwrap();
            compute.wait_for_log("the last one").await;
            // An error that names an object.
            let good = bed.spec.databases.clone();
            bed.spec.database("shop", &format!("no{MARKUP}"));
            let (code, answer) = compute.configure(&bed).await;
            assert!(!code.is_success(), "{answer}");
            bed.spec.databases = good;
            until("the log on the page is complete", || async {
                inside(&compute, "/").await.contains("the last one")
            })
            .await;

            let page = inside(&compute, "/").await;
            is_harmless("the page", &page);
            assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
            assert!(!page.contains("<b>y"), "{page}");
            let scrape = compute.get("/metrics").await.1.as_str().unwrap().to_owned();
            is_harmless("the metrics", &scrape);
            assert!(families(&scrape).len() > 30);
            let (external, internal) = (compute.external.as_str(), compute.internal.as_str());
            for args in [
                &["status", "--url", external][..],
                &["status", "--json", "--url", external],
                &["wait", "--for", "running", "--timeout", "0", "--url", external],
                &["wait", "--json", "--for", "running", "--timeout", "0", "--url", external],
                &["logs", "--lines", "500", "--url", internal],
                &["logs", "--json", "--lines", "500", "--url", internal],
                &["metrics", "--url", external],
            ] {
                let ran = client(args).await;
                is_harmless(&args.join(" "), &format!("{}\n{}", ran.stdout, ran.stderr));
            }
            log_is_harmless(&compute.settled_log().await, format == "json");
            assert_ne!(compute.stop(Signal::SIGTERM).await, 0);
            log_is_harmless(&compute.log(), format == "json");
        }
        assert_nothing_left(&bed);
    })
    .await;
}
