//! local_proxy gets its configuration: the file is replaced in one step, then the process that
//! holds the lock of its pid file gets SIGHUP (04 §9). At its real place, in a mount namespace.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, hand_over, may_mount, names, overlaid, private_mount, put};
use crate::support::process::{Compute, Marked};
use crate::support::server::on_one_server;
use crate::support::sidecar::Daemon;

/// The folder that the compute sees as `/etc/local_proxy`.
pub(super) fn folder(bed: &Bed) -> PathBuf {
    bed.dir().join("local_proxy")
}

pub(super) fn mounts(bed: &Bed) -> String {
    // The mount point comes from a folder that is mounted over /etc.
    let point = overlaid(&bed.dir().join("etc"), "/etc");
    format!("{point}; mount --bind '{}' /etc/local_proxy", folder(bed).display())
}

pub(super) async fn prepare(bed: &Bed) -> bool {
    for folder in [bed.dir().join("etc"), bed.dir().join("etc/local_proxy"), folder(bed)] {
        fs::create_dir(&folder).unwrap();
        hand_over(&folder);
    }
    may_mount(&mounts(bed)).await
}

fn start(bed: &Bed) -> Compute {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    Compute::spawn_through(bed, private_mount(&mounts(bed)), &line)
}

/// Its `tls` is not meant for local_proxy: TLS is not active here.
pub(super) fn config(id: &str) -> Value {
    json!({
        "jwks": [{"id": id, "role_names": ["anon"], "jwks_url": "https://idp.example/jwks.json",
            "provider_name": "example", "jwt_audience": null}],
        "tls": {"key_path": "/spec.key", "cert_path": "/spec.crt"}
    })
}

fn expected(id: &str) -> String {
    format!(
        "{{\n  \"jwks\": [\n    {{\n      \"id\": \"{id}\",\n      \"role_names\": [\n        \
         \"anon\"\n      ],\n      \"jwks_url\": \"https://idp.example/jwks.json\",\n      \
         \"provider_name\": \"example\",\n      \"jwt_audience\": null\n    }}\n  ]\n}}"
    )
}

/// A process that records each SIGHUP; with `lock` it owns the pid file.
async fn listener(bed: &Bed, name: &str, lock: bool) -> (Daemon, PathBuf) {
    let (notes, pid) = (bed.dir().join(name), folder(bed).join("pid"));
    let script = "trap 'echo hup >> \"$0\"' HUP; printf %s $$ > \"$1\"; echo ready > \"$0\"; \
                  while :; do sleep 0.02; done";
    let mut command = Command::new(if lock { "flock" } else { "env" });
    if lock {
        command.arg("--nonblock").arg("--no-fork").arg(&pid);
    }
    command.args(["sh", "-c", script]).arg(&notes).arg(&pid);
    let daemon = Daemon::start(bed.dir(), command);
    eventually("it listens", || fs::read_to_string(&notes).is_ok_and(|text| !text.is_empty()))
        .await;
    (daemon, notes)
}

async fn configure(bed: &mut Bed, compute: &Compute, id: &str) {
    bed.spec.member("local_proxy_config", config(id));
    let (code, answer) = compute.configure(bed).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn only_the_owner_of_the_lock_is_told() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if !prepare(&bed).await {
            return;
        }
        let file = folder(&bed).join("config.json");
        bed.spec.member("local_proxy_config", config("one"));
        let mut compute = start(&bed);
        compute.wait_for("running").await;
        compute.wait_for_log("no local_proxy runs").await;
        assert_eq!(fs::read_to_string(&file).unwrap(), expected("one"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);

        // A reader with the old file open still reads it completely.
        let old = bed.dir().join("old.json");
        fs::hard_link(&file, &old).unwrap();
        let (owner, notes) = listener(&bed, "owner", true).await;
        configure(&mut bed, &compute, "two").await;
        compute.wait_for_log("has a new configuration").await;
        eventually("SIGHUP", || fs::read_to_string(&notes).unwrap().ends_with("hup\n")).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), expected("two"));
        assert_eq!(fs::read_to_string(&old).unwrap(), expected("one"));
        owner.stop().await;
        // The process's last `sleep` has the file open, too.
        let pid = folder(&bed).join("pid");
        let lock = || Flock::lock(fs::File::open(&pid).unwrap(), FlockArg::LockExclusiveNonblock);
        eventually("the lock is free", || lock().is_ok()).await;
        assert_eq!(fs::read_to_string(&notes).unwrap(), "ready\nhup\n", "exactly one");

        // The file has a number but no lock: another process may have that number by now.
        let (bystander, notes) = listener(&bed, "bystander", false).await;
        configure(&mut bed, &compute, "three").await;
        compute.wait_for_log_times("no local_proxy runs", 2).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), expected("three"));
        bystander.stop().await;
        assert_eq!(fs::read_to_string(&notes).unwrap(), "ready\n");

        // Without the member no file is changed.
        put(&file, "by hand");
        bed.spec.member("local_proxy_config", json!(null));
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), "by hand");
        assert_eq!(names(&folder(&bed)), ["config.json", "pid"], "no temporary file");
        assert_nothing_left(&bed);
    })
    .await;
}

/// Case P3 of 04 §15: reported and tolerated, in a reconfiguration and at a start without catalog
/// updates.
#[tokio::test]
async fn a_folder_that_cannot_be_written_holds_up_nothing() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if !prepare(&bed).await {
            return;
        }
        std::os::unix::fs::chown(folder(&bed), Some(0), Some(0)).unwrap();
        bed.spec.member("local_proxy_config", config("one"));
        let mut compute = start(&bed);
        compute.wait_for("running").await;
        let said = "error while configuring local_proxy: could not replace \
                    /etc/local_proxy/config.json";
        compute.wait_for_log(said).await;
        bed.spec.skip_pg_catalog_updates = false;
        configure(&mut bed, &compute, "two").await;
        compute.wait_for_log_times(said, 2).await;
        assert_eq!(compute.get("/status").await.1["status"], "running");
        assert!(names(&folder(&bed)).is_empty());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// 04 §9.1 b: a primary whose catalog is updated does not start without the file. Nothing is wiped.
#[tokio::test]
async fn a_start_with_catalog_updates_needs_the_file() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        if !prepare(&bed).await {
            return;
        }
        std::os::unix::fs::chown(folder(&bed), Some(0), Some(0)).unwrap();
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.member("local_proxy_config", config("one"));
        let marked = Marked::put(&bed);
        let mut compute = start(&bed);
        let error = compute.wait_for_failure().await;
        for part in [
            "local_proxy_config cannot be applied",
            "could not replace /etc/local_proxy/config.json",
            "ermission denied",
        ] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        marked.assert_untouched();
        compute.dismiss().await;

        // A file that may be written in its place is enough.
        let file = folder(&bed).join("config.json");
        put(&file, "a longer text than the new one, ".repeat(50).as_str());
        let before = fs::metadata(&file).unwrap();
        let mut compute = start(&bed);
        compute.wait_for("running").await;
        compute.wait_for_log("no local_proxy runs").await;
        assert_eq!(fs::read_to_string(&file).unwrap(), expected("one"));
        let after = fs::metadata(&file).unwrap();
        assert_eq!((after.ino(), after.uid()), (before.ino(), before.uid()));
        assert_eq!(names(&folder(&bed)), ["config.json"], "no temporary file");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
