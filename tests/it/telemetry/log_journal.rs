//! Priorities for journald, if our stderr is its stream.

use nix::sys::signal::Signal;
use tokio::process::Command;

use super::record;
use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Names stderr as systemd does, then becomes the program.
const UNDER_JOURNALD: &str = r#"JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$0" "$@""#;

async fn log_of_a_run(bed: &Bed, script: &str, args: &[&str]) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("export JOURNAL_STREAM; {script}")]);
    let mut line = [bed.base_args(), bed.config_args()].concat();
    line.extend(args.iter().map(ToString::to_string));
    let mut compute = Compute::spawn_through(bed, shell, &line);
    compute.wait_for("running").await;
    // Its stderr is a pipe to us.
    let environment = std::fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("JOURNAL_STREAM"));
    let sql = compute.sql().await;
    assert!(sql.batch_execute("select 1/0 as planted").await.is_err());
    drop(sql);
    until("the error is in the log", || async { compute.count_in_log("division by zero") > 0 })
        .await;
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    let log = compute.log();
    compute.forget_log();
    log
}

#[tokio::test]
async fn each_line_has_its_priority() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        // An event of several lines.
        bed.spec.skip_pg_catalog_updates = false;
        let log = log_of_a_run(&bed, UNDER_JOURNALD, &[]).await;
        for line in log.lines() {
            let prioritised = ["<3>", "<4>", "<6>", "<7>"].iter().any(|it| line.starts_with(it));
            assert!(prioritised, "{line}");
        }
        let has = |start: &str, text: &str| {
            log.lines().any(|line| line.starts_with(start) && line.contains(text))
        };
        assert!(has("<6>2", "INFO compute start finished"), "{log}");
        assert!(has("<3>PG:", "ERROR:  division by zero"), "{log}");
        assert!(has("<6>PG:", "LOG:  database system is ready"), "{log}");

        bed.spec.skip_pg_catalog_updates = true;
        let log = log_of_a_run(&bed, UNDER_JOURNALD, &["--log-format", "json"]).await;
        for line in log.lines() {
            let (priority, line) = line.split_at(3);
            let level = record(line.as_bytes())["level"].as_str().unwrap().to_owned();
            let expected = match level.as_str() {
                "ERROR" => "<3>",
                "WARN" => "<4>",
                "INFO" => "<6>",
                _ => "<7>",
            };
            assert_eq!(priority, expected, "{line}");
        }

        // The stream of another program.
        let log = log_of_a_run(&bed, r#"JOURNAL_STREAM=1:2 exec "$0" "$@""#, &[]).await;
        assert!(!log.lines().any(|line| line.starts_with('<')), "{log}");
        assert_nothing_left(&bed);
    })
    .await;
}
