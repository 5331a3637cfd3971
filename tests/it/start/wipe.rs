//! PGDATA before the start, and what happens to its old content.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use compute_ctl::postgres::conf::CONF_HEADING;
use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, hand_over, names, put};
use crate::support::process::{Compute, Marked};
use crate::support::server::on_one_server;

/// A folder in place of PGDATA that belongs to the run-as user.
fn make_pgdata(bed: &Bed) {
    fs::create_dir(bed.pgdata()).unwrap();
    hand_over(&bed.pgdata());
}

/// Runs a compute to `running` and ends it; PGDATA must hold only the content of this run.
async fn run_once(bed: &Bed, args: &[&str]) {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    line.extend(args.iter().map(ToString::to_string));
    let mut compute = Compute::spawn(bed, &line, &[]);
    compute.wait_for("running").await;
    assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");
    assert_eq!(fs::metadata(bed.pgdata()).unwrap().permissions().mode() & 0o7777, 0o700);
    eventually("the old content is deleted", || no_trash(bed)).await;
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
}

fn no_trash(bed: &Bed) -> bool {
    let is_trash = |name: &String| name.contains("trash");
    let parent = bed.pgdata().parent().unwrap().to_owned();
    !names(&parent).iter().any(is_trash) && !names(&bed.pgdata()).iter().any(is_trash)
}

#[tokio::test]
async fn a_missing_directory_is_made() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        run_once(&bed, &[]).await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_empty_directory_is_taken() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        make_pgdata(&bed);
        fs::set_permissions(bed.pgdata(), fs::Permissions::from_mode(0o755)).unwrap();
        let before = fs::metadata(bed.pgdata()).unwrap().ino();
        run_once(&bed, &[]).await;
        assert_eq!(fs::metadata(bed.pgdata()).unwrap().ino(), before, "another directory");
        assert_nothing_left(&bed);
    })
    .await;
}

/// Every start is a fresh one: the next start deletes what was written into the data directory.
#[tokio::test]
async fn a_data_directory_is_made_anew() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        run_once(&bed, &[]).await;
        put(&bed.pgdata().join("base/marker"), "old");
        put(&bed.pgdata().join("neon.signal"), "old");
        let before = fs::metadata(bed.pgdata()).unwrap().ino();
        run_once(&bed, &[]).await;
        assert!(!bed.pgdata().join("base/marker").exists());
        assert_ne!(bed.pgdata_text("neon.signal"), "old");
        assert_eq!(fs::metadata(bed.pgdata()).unwrap().ino(), before, "another directory");
        assert_nothing_left(&bed);
    })
    .await;
}

/// A start that was killed before the basebackup leaves nothing but our `postgresql.conf`.
#[tokio::test]
async fn a_half_made_directory_is_known() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let pgdata = bed.pgdata();
        put(&pgdata.join("postgresql.conf"), &format!("{CONF_HEADING}\nport = 1\n"));
        put(&pgdata.join("half"), "old");
        run_once(&bed, &[]).await;
        assert!(!pgdata.join("half").exists());
        assert!(!bed.pgdata_text("postgresql.conf").contains("port = 1\n"));
        assert_nothing_left(&bed);
    })
    .await;
}

/// A start that was killed early, of another program: it wrote other files first.
#[tokio::test]
async fn what_another_programs_start_left_is_known() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let pgdata = bed.pgdata();
        put(&pgdata.join("postgresql.conf"), "port = 1\n");
        put(&pgdata.join("base/1/1259"), "old");
        put(&pgdata.join("postmaster.pid"), "");
        put(&pgdata.join("standby.signal"), "");
        run_once(&bed, &[]).await;
        assert!(!pgdata.join("standby.signal").exists());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn something_else_is_refused() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let pgdata = bed.pgdata();
        // A configuration of another program alone is not a data directory.
        put(&pgdata.join("postgresql.conf"), "port = 1\n");
        put(&pgdata.join("photos/cat.jpg"), "meow");
        let mut compute = bed.start();
        let (status, _) = compute.wait_for_any(&["failed", "running"]).await;
        assert_eq!(status, "failed");
        let (_, status) = compute.get("/status").await;
        let error = status["error"].as_str().unwrap();
        assert!(error.contains("--force-wipe"), "{error}");
        assert!(error.contains(&pgdata.display().to_string()), "{error}");
        assert_eq!(names(&pgdata), ["photos", "postgresql.conf"]);
        assert_eq!(bed.pgdata_text("postgresql.conf"), "port = 1\n");
        assert_eq!(bed.pgdata_text("photos/cat.jpg"), "meow");
        assert!(no_trash(&bed));
        assert_eq!(bed.pageserver.journal().commands(), Vec::<String>::new());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        run_once(&bed, &["--force-wipe"]).await;
        assert!(!pgdata.join("photos").exists());
        assert_nothing_left(&bed);
    })
    .await;
}

/// Predecessors that were killed during deletion.
#[tokio::test]
async fn leftovers_of_predecessors_are_deleted() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let _marked = Marked::put(&bed);
        // Not folders of the compute: another name, or no process id at its end.
        let (file, folder) = (bed.dir().join(".pgdata.trash-x"), bed.dir().join(".other.trash-1"));
        put(&file, "");
        put(&folder.join("file"), "");
        for leftover in [".pgdata.trash-1", ".pgdata.trash-4711-2", "pgdata/.compute_ctl.trash-1"] {
            put(&bed.dir().join(leftover).join("base/1/1259"), "old");
        }
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let trash = || -> Vec<String> {
            let found = names(bed.dir()).into_iter().chain(names(&bed.pgdata()));
            found.filter(|name| name.contains("trash")).collect()
        };
        eventually("leftovers are deleted", || trash().len() <= 2).await;
        assert_eq!(trash(), [".other.trash-1", ".pgdata.trash-x"]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A parent in which no file can be made, as `/` is for a volume in a container: the old content
/// cannot be moved beside PGDATA.
#[tokio::test]
async fn the_parent_need_not_be_writable() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.place_pgdata("volume/pgdata");
        let marked = Marked::put(&bed);
        let parent = bed.pgdata().parent().unwrap().to_owned();
        hand_over(&bed.pgdata());
        close(&parent);
        run_once(&bed, &[]).await;
        marked.assert_wiped();
        run_once(&bed, &[]).await;
        assert_eq!(names(&parent), ["pgdata"]);
        open(&parent);
        assert_nothing_left(&bed);
    })
    .await;
}

fn close(dir: &Path) {
    if nix::unistd::geteuid().is_root() {
        chown(dir, Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o555)).unwrap();
}

/// Makes it possible to remove the bed.
fn open(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}
