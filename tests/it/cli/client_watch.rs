//! `compute_ctl status --watch`: shows the compute until Ctrl-C, whether it answers or not.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::assertions::{PATIENCE, assert_nothing_left};
use crate::support::bed::Bed;
use crate::support::process::program;
use crate::support::server::on_one_server;

#[tokio::test]
async fn it_follows_the_compute_until_ctrl_c() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let url = format!("http://127.0.0.1:{}", bed.external_port);
        let mut command = Command::new(program());
        command.args(["status", "--watch", "50ms", "--url", &url]).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[expect(clippy::disallowed_methods, reason = "the test reaps it itself")]
        let mut watcher = command.kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        let mut read_until = async |wanted: &str| {
            let read = async {
                while let Some(line) = lines.next_line().await.unwrap() {
                    if line.contains(wanted) {
                        return;
                    }
                }
                panic!("the output ended before {wanted}");
            };
            timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no line with {wanted}"));
        };

        read_until(&format!("Error: {url}: could not reach the compute")).await;
        read_until("---").await;
        let mut compute = bed.start();
        read_until("status       running").await;
        read_until("start_postgres").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        read_until("could not reach the compute").await;

        let pid = i32::try_from(watcher.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
        let output = timeout(PATIENCE, watcher.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        assert_nothing_left(&bed);
    })
    .await;
}
