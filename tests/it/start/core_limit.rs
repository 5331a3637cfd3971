//! Postgres may leave core dumps as large as the machine allows (01 §19.4).

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tokio::process::Command;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Runs its arguments with a soft limit of 0, without the right to raise the hard one.
fn limited(hard: &str) -> Command {
    let script = format!("{hard} ulimit -S -c 0; exec \"$@\"");
    let shell = ["sh", "-c", &script, "sh"];
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.arg("--bounding-set=-sys_resource").args(shell);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(&shell[1..]);
        command
    };
    command.kill_on_drop(true);
    command
}

/// Soft and hard limit of a process.
fn limits(pid: i32) -> [String; 2] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    [words[0].to_owned(), words[1].to_owned()]
}

async fn run(bed: &Bed, hard: &str) -> ([String; 2], String) {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    let mut compute = Compute::spawn_through(bed, limited(hard), &line);
    compute.wait_for("running").await;
    let limits = limits(compute.postmaster());
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    (limits, compute.log())
}

#[tokio::test]
async fn the_soft_limit_of_postgres_is_the_hard_one() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let ([soft, hard], log) = run(&bed, "").await;
        assert_eq!(soft, hard);
        let unlimited = log.contains("core dumps are unlimited");
        assert_eq!(unlimited, hard == "unlimited", "{log}");

        // The log warns an operator who may look for a core dump later.
        let ([soft, hard], log) = run(&bed, "ulimit -H -c 8;").await;
        assert_eq!(soft, hard);
        let words = format!("core dumps are limited to {hard} bytes, the hard limit");
        let line = log.lines().find(|line| line.contains(&words));
        assert!(line.is_some_and(|line| line.contains("WARN")), "{words}: {log}");
        assert_nothing_left(&bed);
    })
    .await;
}
