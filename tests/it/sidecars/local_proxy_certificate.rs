//! local_proxy reads key and certificate only at its start and on SIGHUP. So it is told of a pair
//! that comes late, and of each new one, although its own file stays the same (01 §15).

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use super::local_proxy::{config, folder, mounts, prepare};
use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, Pair, TlsFiles, private_mount, served};
use crate::support::process::Compute;
use crate::support::server::on_one_server;
use crate::support::sidecar::Daemon;

/// A stand-in that copies the certificate to a file of its own at its start, and on SIGHUP.
async fn reader(bed: &Bed, files: &TlsFiles) -> (Daemon, PathBuf) {
    let (read, pid) = (bed.dir().join("read.crt"), folder(bed).join("pid"));
    let script = "read_it() { cat \"$CERT\" > \"$READ.new\"; mv \"$READ.new\" \"$READ\"; }; \
                  trap read_it HUP; printf %s $$ > \"$0\"; read_it; \
                  while :; do sleep 0.02; done";
    let mut command = Command::new("flock");
    command.arg("--nonblock").arg("--no-fork").arg(&pid).args(["sh", "-c", script]);
    command.arg(&pid).env("READ", &read).env("CERT", files.dir.join("tls.crt"));
    let daemon = Daemon::start(bed.dir(), command);
    eventually("it has read", || read.exists()).await;
    (daemon, read)
}

fn start(bed: &Bed, files: &TlsFiles) -> Compute {
    let path = bed.write("config.json", &files.config(bed)).display().to_string();
    let mut line = bed.base_args();
    line.extend(["--compute-id", "c1", "--config", &path].map(str::to_owned));
    Compute::spawn_through(bed, private_mount(&mounts(bed)), &line)
}

async fn has_read(compute: &Compute, read: &PathBuf, pair: &Pair) {
    let same = || fs::read_to_string(read).is_ok_and(|text| text == pair.cert);
    eventually(&format!("local_proxy reads it\n{}", compute.log()), same).await;
}

#[tokio::test]
async fn a_pair_that_comes_late_and_each_renewal() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if !prepare(&bed).await {
            return;
        }
        bed.spec.member("features", json!(["tls_experimental"]));
        bed.spec.member("local_proxy_config", config("one"));
        let files = TlsFiles::new(&bed);
        let (daemon, read) = reader(&bed, &files).await;

        let mut compute = start(&bed, &files);
        // It is told at once, and finds no pair.
        compute.wait_for_log("has a new configuration").await;
        compute.wait_for_log("tls.key does not exist").await;
        let first = Pair::new();
        files.put_pair(&first);
        compute.wait_for("running").await;
        has_read(&compute, &read, &first).await;

        // Only the content changes. The file is written again as well.
        let file = folder(&bed).join("config.json");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("tls.crt") && !text.contains("/spec.crt"), "{text}");
        for _ in 0..2 {
            fs::remove_file(&file).unwrap();
            let next = Pair::new();
            files.put_pair(&next);
            served(&compute, &bed, &next).await;
            has_read(&compute, &read, &next).await;
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }

        daemon.stop().await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
