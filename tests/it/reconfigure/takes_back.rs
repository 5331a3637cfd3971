//! A reconfiguration that fails when the new file replaces the old one, and one that cannot restore
//! the old file: the error says which configuration is in force (01 §13.2).

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const IN_FORCE: &str = "the configuration before it is in force";

async fn configure(bed: &Bed, compute: &Compute) -> (u16, Value) {
    let (code, body) = compute.configure(bed).await;
    (code.as_u16(), body)
}

/// The error and its phase, from `/status`.
async fn failure(compute: &Compute) -> (String, Value) {
    let (_, status) = compute.get("/status").await;
    assert_eq!(status["status"], "failed", "{status}");
    let failure = &status["extra"]["last_failure"];
    (status["error"].as_str().unwrap().to_owned(), failure["phase"].clone())
}

/// Turns `postgresql.conf` into something that a file cannot replace.
struct Folder {
    conf: PathBuf,
    aside: PathBuf,
}

impl Folder {
    fn put(bed: &Bed) -> Self {
        let (conf, aside) = (bed.pgdata().join("postgresql.conf"), bed.dir().join("aside"));
        fs::rename(&conf, &aside).unwrap();
        fs::create_dir(&conf).unwrap();
        fs::write(conf.join("not empty"), "").unwrap();
        Self { conf, aside }
    }

    fn take_away(self) {
        fs::remove_dir_all(&self.conf).unwrap();
        fs::rename(self.aside, self.conf).unwrap();
    }
}

/// The spec of the start leads back to `running`.
async fn leave_failed(compute: &mut Compute, work_mem: &str) {
    compute.refresh().await;
    compute.wait_for_any(&["running"]).await;
    assert_eq!(compute.sql_text("SHOW work_mem").await, work_mem);
}

#[tokio::test]
async fn what_cannot_be_replaced_stays() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("work_mem", "5MB", "integer");
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let folder = Folder::put(&bed);
        bed.spec.typed("work_mem", "7MB", "integer").skip_pg_catalog_updates = false;
        let (code, body) = configure(&bed, &compute).await;
        assert_eq!(code, 500, "{body}");
        let (error, phase) = failure(&compute).await;
        assert_eq!(phase, "write_configuration", "{error}");
        for part in ["phase write_configuration", IN_FORCE, "postgresql.conf"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(compute.sql_text("SHOW work_mem").await, "5MB");
        folder.take_away();
        leave_failed(&mut compute, "5MB").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_old_file_that_cannot_be_put_back_is_told() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("work_mem", "5MB", "integer");
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        // Statements on roles wait for this lock. By then the new file is in force, and it will be
        // written once more.
        let session = compute.sql().await;
        session.batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE").await.unwrap();
        bed.spec.typed("work_mem", "7MB", "integer").skip_pg_catalog_updates = false;
        bed.spec.role("ann", None);
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let block_the_way_back = async {
            until("the roles are waited for", || async { compute.sql_text(waiting).await != "0" })
                .await;
            let folder = Folder::put(&bed);
            session.batch_execute("ROLLBACK").await.unwrap();
            folder
        };
        let ((code, body), folder) = tokio::join!(configure(&bed, &compute), block_the_way_back);
        assert_eq!(code, 500, "{body}");
        let (error, phase) = failure(&compute).await;
        assert_eq!(phase, "write_configuration", "{error}");
        let not_back = "the reconfiguration failed in phase write_configuration, and the \
                        configuration before it could not be put back in force: could not replace";
        assert!(error.contains(not_back), "{error}");
        assert!(!error.contains(IN_FORCE), "{error}");
        // The state matches the error, and the changes to the catalog stay.
        assert_eq!(compute.sql_text("SHOW work_mem").await, "7MB");
        assert_eq!(compute.sql_text("SELECT 'ann'::regrole").await, "ann");
        folder.take_away();
        leave_failed(&mut compute, "5MB").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
