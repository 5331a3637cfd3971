//! The level of the log at run time, and the commands for the log.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::assertions::{PATIENCE, assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{client, program};
use crate::support::server::on_one_server;

#[tokio::test]
async fn another_level_for_a_limited_time() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let url = compute.internal.clone();
        let ran = client(&["log-level", "--url", &url]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "info\n"), "{ran:?}");
        let probes = "answering 200";
        assert_eq!(compute.get("/live").await.0, 200);
        assert_eq!(compute.count_in_log("url.path=/live"), 0, "{}", compute.log());

        let ran = client(&["log-level", "debug", "--for", "30m", "--url", &url]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.starts_with("debug until 2") && ran.stdout.ends_with("then info\n"));
        assert_eq!(compute.get("/live").await.0, 200);
        compute.wait_for_log(probes).await;
        let changed = "the log level changes from \"info\" to \"debug\", until 2";
        compute.wait_for_log(changed).await;

        // A bad filter changes nothing, and is named.
        let bad = json!({"level": "debug,loud=very"});
        let (code, answer) = compute.post_internal("/log_level", &bad).await;
        assert_eq!(code, 400);
        assert!(answer["error"].as_str().unwrap().starts_with("level: \"loud=very\" cannot"));
        let ran = client(&["log-level", "loud", "--url", &url, "--json"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");

        // A later request replaces the limit; then the configured level is back.
        let request = json!({"level": "compute_ctl::http=trace,warn", "for": "50ms"});
        let (code, answer) = compute.post_internal("/log_level", &request).await;
        assert_eq!((code.as_u16(), &answer["configured"]), (200, &json!("info")));
        assert!(answer["until"].is_string());
        compute.wait_for_log("back to \"info\": its time is over").await;
        let url_of_level = format!("{url}/log_level");
        let answer = compute.http.get(url_of_level).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer, json!({"level": "info", "configured": "info", "until": null}));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_last_lines_by_a_command() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let url = compute.internal.clone();
        until("Postgres' line is there", || async {
            let ran = client(&["logs", "--url", &url, "-n", "500"]).await;
            assert_eq!(ran.code, Some(0), "{ran:?}");
            // As in the log, which began with them.
            let lines: Vec<_> = ran.stdout.lines().collect();
            let log = compute.log();
            assert!(lines.iter().take(3).all(|line| log.contains(line)), "{lines:?}\n{log}");
            lines.iter().any(|line| line.starts_with("PG:") && line.contains("is ready"))
        })
        .await;
        let ran = client(&["logs", "--url", &url, "-n", "2", "--json"]).await;
        let lines: Vec<Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() == 2 && lines[0]["sequence"].is_u64(), "{ran:?}");

        // Follows what is new.
        let mut follow = Command::new(program());
        follow.args(["logs", "--url", &url, "--follow"]).stdout(Stdio::piped()).kill_on_drop(true);
        #[expect(clippy::disallowed_methods, reason = "this process has no reaper")]
        let mut follow = follow.spawn().unwrap();
        let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        for text in ["compute start finished", "planted"] {
            timeout(PATIENCE, async {
                while !lines.next_line().await.unwrap().unwrap().contains(text) {}
            })
            .await
            .unwrap_or_else(|_| panic!("no line with {text}"));
            assert_eq!(compute.get("/planted").await.0, 404);
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        // It ends with the process that it follows.
        assert!(!timeout(PATIENCE, follow.wait()).await.unwrap().unwrap().success());

        let ran = client(&["logs", "--url", &url]).await;
        assert_eq!(ran.code, Some(3), "not reached: {ran:?}");
        assert_nothing_left(&bed);
    })
    .await;
}

/// The external server is easily taken for the internal one.
#[tokio::test]
async fn the_wrong_server_is_named() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let url = compute.external.clone();
        for command in ["logs", "log-level"] {
            let ran = client(&[command, "--url", &url]).await;
            assert_eq!(ran.code, Some(1));
            assert!(ran.stderr.contains("port is 3081 unless --internal-http-port"), "{ran:?}");
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
