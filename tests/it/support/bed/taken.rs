//! Data that outlive a compute: the next one starts from what it wrote. The locks of a prepared
//! transaction outlive it, too, which is how a test blocks a start.

use compute_ctl::dev::archive::{self, ArchiveOptions};
use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::assertions::eventually;
use crate::support::bed::Bed;
use crate::support::process::Compute;

impl Bed {
    /// Stops a compute and makes the pageserver serve its data from now on.
    pub async fn take_data(&self, mut compute: Compute) {
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        self.serve_pgdata();
    }

    /// The same with the data of a killed compute: its Postgres still runs, and is stopped now.
    pub async fn take_orphaned_data(&self, mut compute: Compute) {
        assert!(!compute.is_alive());
        let postmaster = compute.postmaster();
        kill(Pid::from_raw(postmaster), Signal::SIGINT).unwrap();
        let ended = || procs::get(postmaster).is_none_or(|process| process.zombie);
        eventually("Postgres has ended", ended).await;
        self.serve_pgdata();
    }

    fn serve_pgdata(&self) {
        let archive = self.dir().join("taken.tar.gz");
        archive::build(&self.pgdata(), &archive, &ArchiveOptions::default()).unwrap();
        self.pageserver.set_archive(&archive);
    }

    /// Allows [`Compute::hold_in`].
    pub fn allow_holding(&mut self) {
        self.spec.typed("max_prepared_transactions", "2", "integer");
    }
}

impl Compute {
    /// Runs a statement and keeps its locks until [`Compute::release_in`], also for later computes
    /// on the same data.
    pub async fn hold_in(&self, database: &str, sql: &str) {
        self.run_in(database, &format!("BEGIN; {sql}; PREPARE TRANSACTION 'held'")).await;
    }

    /// Rolls back what is held there.
    pub async fn release_in(&self, database: &str) {
        self.run_in(database, "ROLLBACK PREPARED 'held'").await;
    }

    /// Waits until so many sessions of this name wait for a lock.
    pub async fn wait_for_lock_waits(&mut self, application_name: &str, count: usize) {
        self.wait_for_log("database system is ready to accept connections").await;
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = '{application_name}' AND wait_event_type = 'Lock'"
        );
        self.wait_for_sql(&query, &count.to_string()).await;
    }
}
