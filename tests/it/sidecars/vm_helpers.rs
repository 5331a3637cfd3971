//! Helpers set swap and disk quota through sudo, at the start only and before Postgres runs (04
//! §11). A script in place of `/usr/bin/sudo` records its calls.

use std::fs;

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, hand_over, may_mount, overlaid, private_mount, put_program};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const SWAP: &str = "/neonvm/bin/resize-swap --once 1073741824";
const QUOTA: &str = "/neonvm/bin/set-disk-quota 5242880 /mnt/x";
const FLAGS: [&str; 3] = ["--resize-swap-on-bind", "--set-disk-quota-for-fs", "/mnt/x"];

fn mounts(bed: &Bed) -> String {
    overlaid(&bed.dir().join("bin"), "/usr/bin")
}

/// The stand-in for sudo records its arguments, complains if Postgres runs already, and ends with 1
/// if the arguments contain the word in `fails`.
async fn prepare(bed: &mut Bed) -> bool {
    let dir = bed.dir().display().to_string();
    let script = format!(
        "[ ! -e '{}/postmaster.pid' ] || echo late >> {dir}/notes\n\
         echo \"$*\" >> {dir}/notes\n\
         ! echo \"$*\" | grep -q \"$(cat {dir}/fails)\"",
        bed.pgdata().display()
    );
    put_program(&bed.dir().join("bin/sudo"), &script);
    fail_on(bed, "nothing");
    bed.spec.member("swap_size_bytes", json!(1_073_741_824));
    bed.spec.member("disk_quota_bytes", json!(5_368_709_120_u64));
    may_mount(&mounts(bed)).await
}

fn fail_on(bed: &Bed, word: &str) {
    fs::write(bed.dir().join("fails"), word).unwrap();
    fs::write(bed.dir().join("notes"), "").unwrap();
    hand_over(&bed.dir().join("notes"));
}

/// The calls, sorted: the two run at the same time.
fn calls(bed: &Bed) -> Vec<String> {
    let notes = fs::read_to_string(bed.dir().join("notes")).unwrap();
    let mut calls: Vec<_> = notes.lines().map(str::to_owned).collect();
    calls.sort();
    calls
}

fn start(bed: &Bed, flags: &[&str]) -> Compute {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    line.extend(flags.iter().map(ToString::to_string));
    Compute::spawn_through(bed, private_mount(&mounts(bed)), &line)
}

/// Cases S1 and S3 of 04 §15.
#[tokio::test]
async fn both_run_once_before_postgres() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if !prepare(&mut bed).await {
            return;
        }
        let mut compute = start(&bed, &FLAGS);
        compute.wait_for("running").await;
        assert_eq!(calls(&bed), [SWAP, QUOTA]);
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(calls(&bed), [SWAP, QUOTA], "never by a reconfiguration");

        // Each needs its flag, and its member.
        fail_on(&bed, "nothing");
        let mut compute = start(&bed, &[]);
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        bed.spec.member("swap_size_bytes", json!(null));
        let mut compute = start(&bed, &FLAGS);
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(calls(&bed), [QUOTA]);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Case S2 of 04 §15.
#[tokio::test]
async fn which_failures_end_the_start() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if !prepare(&mut bed).await {
            return;
        }
        // The helper deletes itself when it has finished, so its absence means an earlier start.
        fail_on(&bed, "resize-swap");
        let mut compute = start(&bed, &FLAGS);
        compute.wait_for("running").await;
        compute.wait_for_log("/neonvm/bin/resize-swap is gone").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        fail_on(&bed, "set-disk-quota");
        let mut compute = start(&bed, &FLAGS);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("failed to set disk quota"), "{error}");
        assert!(error.contains("/neonvm/bin/set-disk-quota ended with exit status: 1"), "{error}");
        compute.dismiss().await;

        // A quota that is too small is still a quota, not none (04 W21).
        fail_on(&bed, "nothing");
        bed.spec.member("swap_size_bytes", json!(0));
        bed.spec.member("disk_quota_bytes", json!(1000));
        let mut compute = start(&bed, &FLAGS);
        compute.wait_for("running").await;
        let expected = ["/neonvm/bin/resize-swap --once 0", "/neonvm/bin/set-disk-quota 1 /mnt/x"];
        assert_eq!(calls(&bed), expected);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
