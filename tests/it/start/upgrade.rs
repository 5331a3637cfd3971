//! Another version of the program takes over a compute, in both directions: after SIGTERM, after
//! SIGKILL of the supervisor alone, and after the end of everything, as by a crash of the machine.
//!
//! `COMPUTE_CTL_TEST_OLD_PROGRAM` names the program of an earlier release. Without it the other
//! program is a copy of the program under test at another path.

use std::path::{Path, PathBuf};
use std::process::Command;

use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::assertions::{eventually, until};
use crate::support::process::{Dev, DevBed, program};
use crate::support::server::on_one_server;

const OLD_PROGRAM_VARIABLE: &str = "COMPUTE_CTL_TEST_OLD_PROGRAM";

/// How the program before ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// SIGTERM, as by `systemctl stop` or a new image.
    Stopped,
    /// Its Postgres goes on.
    Killed,
    /// Supervisor and Postgres are gone, and their files are still there.
    Rebooted,
}

/// The earlier program, in the folder of the scenario.
fn old_program(bed: &DevBed) -> PathBuf {
    let from = std::env::var_os(OLD_PROGRAM_VARIABLE).map_or_else(program, PathBuf::from);
    let copy = bed.dir().join("output-old-program");
    // Not copied by this process: a fork of another test could hold the file open for writing.
    let copied = Command::new("cp").arg(from).arg(&copy).status().unwrap();
    assert!(copied.success());
    copy
}

/// Processes of Postgres on this data directory.
fn postgres_on(pgdata: &Path) -> Vec<i32> {
    let all = procs::all().unwrap();
    let here = |pid| procs::cwd(pid).is_some_and(|cwd| cwd == pgdata);
    all.iter().filter(|p| !p.zombie && here(p.pid)).map(|p| p.pid).collect()
}

/// The documents and the command line that every version takes.
struct Place {
    pgdata: PathBuf,
    line: String,
    connstr: String,
}

impl Place {
    async fn sql(&self, text: &str) -> String {
        Dev::sql_at(&self.connstr, text).await
    }

    /// Ends a compute; returns the processes of its Postgres.
    async fn end(&self, compute: &mut Dev, how: End) -> Vec<i32> {
        let before = postgres_on(&self.pgdata);
        assert!(before.len() > 1, "{before:?}\n{}", compute.output());
        match how {
            End::Stopped => assert_eq!(compute.stop(Signal::SIGTERM).await, 1),
            End::Killed => assert_eq!(compute.stop(Signal::SIGKILL).await, -1),
            End::Rebooted => {
                assert_eq!(compute.stop(Signal::SIGKILL).await, -1);
                // The first one is the postmaster, which cannot start others then.
                for pid in postgres_on(&self.pgdata) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                eventually("Postgres is gone", || postgres_on(&self.pgdata).is_empty()).await;
                assert!(self.pgdata.join("postmaster.pid").exists());
            }
        }
        before
    }
}

#[tokio::test]
async fn either_version_takes_over_from_the_other() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let config = bed.dir().join("output-config.json");
        let mut storage = bed.start_storage(&["--write-config", config.to_str().unwrap()]);
        storage.printed("stop with ").await;
        let document = std::fs::read_to_string(&config).unwrap();
        let mut document: serde_json::Value = serde_json::from_str(&document).unwrap();
        document["spec"]["cluster"]["roles"] = serde_json::json!([{"name": "ann"}]);
        document["spec"]["cluster"]["databases"] =
            serde_json::json!([{"name": "shop", "owner": "ann"}]);
        std::fs::write(&config, document.to_string()).unwrap();
        let said = storage.output();
        let line = said.lines().find(|line| line.contains("compute_ctl -D ")).unwrap();
        let connstr = line.split_whitespace().find(|word| word.starts_with("postgresql:"));
        let place = Place {
            pgdata: bed.data().join("pgdata"),
            line: line.to_owned(),
            connstr: connstr.unwrap().to_owned(),
        };

        let (old, new) = (old_program(&bed), program());
        let (mut from, mut to) = (&old, &new);
        let mut compute = bed.start_compute_by(from, &place.line, "output-0");
        compute.printed("compute start finished").await;
        place.sql("CREATE TABLE kept AS SELECT 4711 AS number").await;
        let ends = [End::Stopped, End::Killed, End::Rebooted].into_iter().flat_map(|it| [it, it]);
        for (n, how) in ends.enumerate() {
            // Two at once: the first one keeps the data directory.
            let said = bed.start_compute_by(to, &place.line, "output-refused").refused().await;
            assert!(said.contains("another compute_ctl"), "{how:?}: {said}");
            assert_eq!(place.sql("SELECT number FROM kept").await, "4711");
            let migrations = "SELECT id FROM neon_migration.migration_id";
            let made = "SELECT pg_catalog.to_regclass('neon_migration.migration_id') IS NOT NULL";
            until("migrations begin", || async { place.sql(made).await == "t" }).await;
            let done: u32 = place.sql(migrations).await.parse().unwrap();
            // After a crash of the machine only what was archived is there.
            place.sql("SELECT pg_catalog.pg_switch_wal()").await;
            let archived = "SELECT failed_count = 0 AND last_archived_wal >= \
                pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn() - 1) \
                FROM pg_catalog.pg_stat_archiver";
            until("it is archived", || async { place.sql(archived).await == "t" }).await;

            let before = place.end(&mut compute, how).await;
            compute = bed.start_compute_by(to, &place.line, &format!("output-{}", n + 1));
            compute.printed("compute start finished").await;
            let now = postgres_on(&place.pgdata);
            assert!(before.iter().all(|pid| !now.contains(pid)), "{how:?}: {before:?} {now:?}");
            assert_eq!(place.sql("SELECT number FROM kept").await, "4711", "{how:?}");
            let owner = "SELECT datdba::regrole FROM pg_database WHERE datname = 'shop'";
            assert_eq!(place.sql(owner).await, "ann", "{how:?}");
            let now: u32 = place.sql(migrations).await.parse().unwrap();
            assert!(now >= done, "{how:?}: {now} migrations after {done}");
            let trash = || std::fs::read_dir(bed.data()).unwrap().flatten();
            let is_trash = |name: &std::ffi::OsStr| name.to_string_lossy().contains("trash");
            let none = || !trash().any(|entry| is_trash(&entry.file_name()));
            eventually("the trash is deleted", none).await;
            (from, to) = (to, from);
        }
        let _ = from;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{}", compute.output());
        assert_eq!(storage.stop(Signal::SIGINT).await, 0, "{}", storage.output());
        bed.assert_nothing_left();
    })
    .await;
}
