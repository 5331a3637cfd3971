//! The log as JSON: every line of a start, a reconfiguration and a failure is a record.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{find, record, records};
use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::client_with_env;
use crate::support::server::{on_every_server, on_one_server};

const JSON: (&str, &str) = ("COMPUTE_CTL_LOG_FORMAT", "json");

/// Statements whose messages have every severity that a session can log, and bytes that imitate
/// records; `#` stands for U+200B.
const MESSAGES: &str = r#"
    do $$ begin
        raise log 'planted log';
        raise warning 'planted warning';
        raise log '{"level":"INFO","source":"compute_ctl"}
{"message":"planted imitation"}#';
        raise exception 'planted error';
    end $$
"#;

#[tokio::test]
async fn a_start_and_the_messages_of_postgres() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("log_line_prefix", "%m [%p] %q%u@%d/%a %e ");
        let mut compute = bed.start_with_env(&[JSON]);
        compute.wait_for("running").await;
        let sql = compute.sql().await;
        assert!(sql.batch_execute(&MESSAGES.replace('#', "\u{200B}")).await.is_err());
        drop(sql);
        compute.wait_for_log(r#""message":"planted error""#).await;

        let all = records(&compute);
        let first = find(&all, "build tag");
        assert_eq!(first["source"], "compute_ctl");
        assert_eq!(first["target"], "compute_ctl::life");
        assert_eq!((&first["compute_id"], &first["tenant_id"]), (&json!("c1"), &Value::Null));
        let ready = find(&all, "compute start finished");
        assert_eq!(ready["tenant_id"], bed.spec.tenant_id.as_str());
        assert_eq!(ready["timeline_id"], bed.spec.timeline_id.as_str());
        for (text, severity, level, sqlstate) in [
            ("planted log", "LOG", "INFO", "00000"),
            ("planted warning", "WARNING", "WARN", "01000"),
            ("planted error", "ERROR", "ERROR", "P0001"),
        ] {
            let one = all.iter().find(|one| one["message"] == text);
            let one = one.unwrap_or_else(|| panic!("{text}: {}", compute.log()));
            assert_eq!(one["source"], "postgres");
            assert_eq!((&one["severity"], &one["level"]), (&severity.into(), &level.into()));
            assert!(one["pid"].is_u64(), "{one}");
            assert_eq!(one["fields"]["user"], "cloud_admin");
            assert_eq!(one["fields"]["database"], "postgres");
            assert_eq!(one["fields"]["sqlstate"], sqlstate);
        }
        // The text of the statement has it, too.
        let has = |one: &&Value| one["message"].as_str().unwrap().ends_with("imitation\"}\u{200B}");
        let forged = all.iter().find(has).unwrap();
        assert_eq!((&forged["source"], &forged["severity"]), (&"postgres".into(), &"LOG".into()));
        // A process without a session.
        let ready = find(&all, "database system is ready");
        assert_eq!((&ready["severity"], &ready["fields"]["user"]), (&"LOG".into(), &Value::Null));

        // Another prefix, without a timestamp.
        bed.spec.set("log_line_prefix", "%p:%a:");
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{answer}");
        let sql = compute.sql().await;
        sql.batch_execute("set application_name = 'x:y'; do $$ begin raise log 'second'; end $$")
            .await
            .unwrap();
        drop(sql);
        compute.wait_for_log(r#""message":"second""#).await;
        let all = records(&compute);
        let second = all.iter().find(|one| one["message"] == "second").unwrap();
        assert_eq!(second["fields"]["application_name"], "x:y");
        // The lines of a request have its id.
        let got = find(&all, "POST /configure");
        assert_eq!(got["fields"]["url.path"], "/configure");
        assert!(got["request_id"].is_string() && got["spans"][0] == "HTTP", "{got}");

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        records(&compute);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Without the collector, Postgres of every version writes its text form in the place of CSV and JSON.
#[tokio::test]
async fn csvlog_and_jsonlog_are_text_on_stderr() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let destination = if bed.server.major < 15 { "csvlog" } else { "csvlog,jsonlog" };
        bed.spec.typed("log_destination", destination, "string");
        bed.spec.set("log_line_prefix", "%m [%p] %q%u@%d %e ");
        let mut compute = bed.start_with_env(&[JSON]);
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SHOW log_destination").await, destination);
        assert_eq!(compute.sql_text("SHOW logging_collector").await, "off");
        compute.run("DO $$ BEGIN RAISE LOG 'planted, \"log\"'; END $$").await;
        compute.wait_for_log("planted, ").await;
        let all = records(&compute);
        let planted = find(&all, "planted, \"log\"");
        assert_eq!((&planted["severity"], &planted["postgres"]), (&json!("LOG"), &Value::Null));
        assert_eq!(planted["fields"]["sqlstate"], "00000");
        assert!(planted["pid"].is_u64(), "{planted}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The last line of a process that failed is a record, whatever it failed at.
#[tokio::test]
async fn failures() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("no_such_setting", "1");
        let mut compute = bed.start_with_env(&[JSON]);
        compute.wait_for_failure().await;
        compute.dismiss().await;
        let all = records(&compute);
        let failed = find(&all, "could not start the compute node");
        assert_eq!(failed["level"], "ERROR");

        // Before the log begins, and before the command line is known.
        let args = bed.base_args();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let missing = ["--compute-id", "c1", "--config", "/no/such/file"];
        for (args, code, text) in [
            ([&args[..], &missing].concat(), 1, "/no/such/file"),
            (vec!["--no-such-flag"], 2, "--no-such-flag"),
        ] {
            let ran = client_with_env(&args, &[JSON]).await;
            assert_eq!(ran.code, Some(code), "{ran:?}");
            let lines: Vec<_> = ran.stderr.lines().map(|line| record(line.as_bytes())).collect();
            let last = lines.last().unwrap();
            assert!(last["message"].as_str().unwrap().contains(text), "{last}");
            assert_eq!(last["level"], "ERROR");
        }
        let ran = client_with_env(&["--log-format", "xml"], &[]).await;
        assert!(
            ran.code == Some(2) && ran.stderr.contains("[possible values: text, json]"),
            "{ran:?}"
        );
        assert_nothing_left(&bed);
    })
    .await;
}
