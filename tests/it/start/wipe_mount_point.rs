//! PGDATA as a mount point: its content goes, the mount stays.

use std::path::PathBuf;
use std::process::Output;

use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, names, run_as_name};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// In a mount namespace of its own, so that the mount is not visible outside and disappears:
/// mounts, prepares, then execs the program of the arguments.
fn private_mount(bed: &Bed, prepare: &str) -> Command {
    let script =
        format!("mount -t tmpfs tmpfs \"$0\" && cd \"$0\" && {prepare} && cd / && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(bed.pgdata());
    command
}

/// Mounting needs root, and more rights than that in a container.
async fn may_mount(bed: &Bed) -> bool {
    let output = private_mount(bed, "true").arg("true").output().await;
    match output {
        Ok(Output { status, .. }) if status.success() => true,
        why => {
            println!("skipped: this user may not mount here: {why:?}");
            false
        }
    }
}

/// The content of PGDATA as the process sees it.
fn inside(bed: &Bed, compute: &Compute) -> PathBuf {
    let path = bed.pgdata();
    PathBuf::from(format!("/proc/{}/root{}", compute.pid(), path.display()))
}

async fn run_on_mount(prepare: &str) {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        std::fs::create_dir(bed.pgdata()).unwrap();
        if !may_mount(&bed).await {
            return;
        }
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let mut compute = Compute::spawn_through(&bed, private_mount(&bed, prepare), &line);
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");

        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", compute.pid())).unwrap();
        let here = format!(" {} ", bed.pgdata().display());
        assert!(mounts.contains(&here), "the mount is gone\n{mounts}");
        let pgdata = inside(&bed, &compute);
        assert!(pgdata.join("PG_VERSION").is_file());
        assert!(!pgdata.join("marker").exists() && !pgdata.join("base/marker").exists());
        eventually("the old content is deleted", || {
            !names(&pgdata).iter().any(|name| name.contains("trash"))
        })
        .await;
        assert!(names(&bed.pgdata()).is_empty(), "written beside the mount");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Like a new volume: owned by root, with only the file system's own directory.
#[tokio::test]
async fn a_fresh_volume() {
    run_on_mount("mkdir lost+found").await;
}

#[tokio::test]
async fn a_volume_that_was_used_before() {
    let user = run_as_name();
    let content = "mkdir base && touch PG_VERSION marker base/marker && chmod 700 .";
    run_on_mount(&format!("{content} && chown -R {user} .")).await;
}

/// Not even with the flag, which the error does not offer.
#[tokio::test]
async fn a_volume_with_other_files_is_never_wiped() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        std::fs::create_dir(bed.pgdata()).unwrap();
        if !may_mount(&bed).await {
            return;
        }
        for flags in [&[][..], &["--force-wipe"]] {
            let mut line = bed.base_args();
            line.extend(bed.config_args());
            line.extend(flags.iter().map(|flag: &&str| (*flag).to_owned()));
            let user = run_as_name();
            let prepare = format!("mkdir photos && touch photos/cat && chown -R {user} .");
            let mut compute = Compute::spawn_through(&bed, private_mount(&bed, &prepare), &line);
            let error = compute.wait_for_failure().await;
            assert!(error.contains("the root of a mounted file system"), "{error}");
            assert!(!error.contains("--force-wipe"), "{error}");
            assert!(inside(&bed, &compute).join("photos/cat").is_file());
            compute.dismiss().await;
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// A data directory in the image of a container: overlayfs does not rename its folders.
#[tokio::test]
async fn a_data_directory_on_the_lower_layer_of_an_overlay() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.place_pgdata("merged/pgdata");
        let place = bed.pgdata().parent().unwrap().to_owned();
        std::fs::create_dir_all(&place).unwrap();
        // The layers are outside of the bed, which may be on an overlay itself.
        let script = format!(
            "set -e; layers=\"$0\"; mount -t tmpfs tmpfs \"$layers\"; cd \"$layers\"; \
             mkdir -p lower/pgdata/base upper work; \
             touch lower/pgdata/PG_VERSION lower/pgdata/base/marker; \
             chmod 700 lower/pgdata; chown -R {} lower upper; \
             mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work '{}'; \
             cd /; exec \"$@\"",
            run_as_name(),
            place.display()
        );
        let layers = tempfile::tempdir().unwrap();
        let namespace = || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
            command.arg(layers.path());
            command
        };
        let output = namespace().arg("true").output().await;
        if !matches!(&output, Ok(output) if output.status.success()) {
            println!("skipped: no overlay can be mounted here: {output:?}");
            return;
        }
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let mut compute = Compute::spawn_through(&bed, namespace(), &line);
        compute.wait_for("running").await;
        assert!(!inside(&bed, &compute).join("base/marker").exists());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
