//! Every deadline of the daemon in one value.
//!
//! Whoever waits takes its limit from here, so a reader finds all of them on one page and a
//! test can shorten them. Invariant: plain durations, no policy; who waits decides what a
//! passed deadline means.

use std::time::Duration;

use crate::services::extensions::DownloadLimits;
use crate::services::lfc::LfcLimits;
use crate::services::monitor::MonitorLimits;
use crate::sidecars::pgbouncer::PgbouncerLimits;
use crate::spec::control_plane::Patience;
use crate::sql::SessionDeadlines;
use crate::sql::standby::PromotionLimits;
use crate::storage::{BasebackupLimits, LeaseLimits};
use crate::tls::WatchLimits;

/// The deadlines. `Default` gives the values of production.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the spawn of Postgres to `ready` in `postmaster.pid` (01 §10).
    pub postgres_ready: Duration,
    /// All rungs of the stop ladder together when a signal ends the process: supervisors give
    /// 8 to 10 s before they send SIGKILL.
    pub stop_on_signal: Duration,
    /// SIGINT rung of `/terminate`: Postgres writes its shutdown checkpoint and waits for the
    /// safekeepers, which takes its time, but must not take for ever.
    pub stop_fast: Duration,
    /// SIGQUIT rung: backends end without cleaning up.
    pub stop_quit: Duration,
    /// SIGKILL rung: how long the kernel may take to end a process.
    pub stop_kill: Duration,
    /// SIGINT rung for a postmaster that a killed predecessor left on this PGDATA. Shorter than
    /// [`Self::stop_fast`], because its data directory is about to be thrown away.
    pub stale_fast: Duration,
    /// Short helpers that answer at once (`pg_config --version`).
    pub helper: Duration,
    /// Reading the rest of the log of a child that has ended. Something else may still hold the
    /// write end of the pipe, so there need not be an end of file.
    pub log_drain: Duration,
    /// Writing out our own log at the end of the process.
    pub log_flush: Duration,
    /// One safekeeper, connect and answer, in the quick check (01 §9.1): four round trips of
    /// 50 ms and a third of that in reserve, since a hiccup costs a run of the sync child (06 W11).
    pub safekeeper_answer: Duration,
    /// The same in `compute_ctl check --probe`, where nobody waits for the start: a safekeeper that
    /// is only slow can be told from one that is not there. Also for the pageserver.
    pub probe: Duration,
    /// One run of `--sync-safekeepers` at start. The child waits for a quorum for ever; a start
    /// that waits this long tells the control plane instead.
    pub sync: Duration,
    /// The sync after Postgres was reaped (01 §18.4).
    pub shutdown_sync: Duration,
    /// Connecting, waiting and retrying towards the pageserver (06 §3.8).
    pub basebackup: BasebackupLimits,
    /// Asking for LSN leases of a static compute, and renewing them (06 §6.3).
    pub lease: LeaseLimits,
    /// How often a basebackup in progress is mentioned in the log.
    pub progress_log: Duration,
    /// One session's connect.
    pub sql_connect: Duration,
    /// One statement; creating a database copies its template.
    pub sql_statement: Duration,
    /// How long an apply goes on while the server has no connection left for it.
    pub sql_no_slot: Duration,
    /// Between two tries meanwhile: there is no event to wait for.
    pub sql_no_slot_pause: Duration,
    /// One lock that a statement of ours waits for. Users' transactions are usually short; where
    /// they are not, waiting longer also makes other users wait, behind us in the queue.
    pub sql_lock: Duration,
    /// An apply of roles and databases as a whole, besides [`Self::sql_apply_per_database`]. Each
    /// statement has its own deadline; this one ends what would go on for days.
    pub sql_apply: Duration,
    /// More time for an apply, for each database of the spec: creating it may take as long where
    /// its pages come from a slow pageserver.
    pub sql_apply_per_database: Duration,
    /// The turn at the catalogs: one step of somebody else's work, with its connect.
    pub catalog_turn: Duration,
    /// Ending what runs in the background.
    pub background_end: Duration,
    /// The statement of the writability check, which waits for the safekeepers for as long as the
    /// write does (03 §5.6); whoever asks gives up long before.
    pub writability: Duration,
    /// `pg_dump` without output: it waits for locks that users hold (03 §5.5).
    pub dump_silence: Duration,
    /// A client that does not take the next piece of a dump, whose snapshot is held meanwhile.
    pub dump_client: Duration,
    /// The communicator in Postgres: connecting, the answer, each piece of it (03 §9).
    pub communicator: Duration,
    /// Waiting for the TLS certificate and looking at it again (01 §15).
    pub tls: WatchLimits,
    /// Asking the control plane at the start: a restart of it is outlasted (09 §10 no. 1).
    pub control_plane: Patience,
    /// The same at a refresh, which is tried again anyway, and whose callers are refused while it is
    /// in progress (03 §6.4).
    pub control_plane_refresh: Patience,
    /// From SIGHUP until Postgres has loaded its configuration. The control plane waits 10 s for
    /// the whole reconfiguration (09 §3).
    pub reload: Duration,
    /// First pause after a failed refresh; doubles each time (03 W8).
    pub refresh_pause: Duration,
    /// Longest pause after a failed refresh.
    pub refresh_pause_max: Duration,
    /// How long a failed start can be looked at (01 §8.2).
    pub linger_failed: Duration,
    /// How long the process stays after a fast terminate (01 §18.1).
    pub linger_fast: Duration,
    /// Enough to deliver an answer (01 §18.1).
    pub linger_immediate: Duration,
    /// HTTP requests in progress at the very end.
    pub http_shutdown: Duration,
    /// `initdb` of the warm-up (01 §6).
    pub initdb: Duration,
    /// A debugger on the core dumps of Postgres, all of them together. The process has to be gone
    /// 10 s after Postgres (01 §18.4).
    pub debugger: Duration,
    /// Children that are still there at the very end, after SIGTERM.
    pub last_children: Duration,
    /// Telling pgbouncer of its settings (04 §8).
    pub pgbouncer: PgbouncerLimits,
    /// A starting local_proxy holds its pid file before its number stands in it (04 §9.3).
    pub local_proxy_pid: Duration,
    /// From the end of rsyslogd to a new one; init starts it again (04 §10.2).
    pub rsyslog_restart: Duration,
    /// Swap and disk quota helpers (04 §11, W21).
    pub vm_helper: Duration,
    /// Fetching an extension (07 §3.3).
    pub extensions: DownloadLimits,
    /// Prewarm and offload of the local file cache (07 §4).
    pub lfc: LfcLimits,
    /// From a replica to a primary (07 §5).
    pub promotion: PromotionLimits,
    /// Looking at users' activity (07 §1).
    pub monitor: MonitorLimits,
    /// Between two looks at old audit files (04 §10.4).
    pub audit_gc_every: Duration,
    /// Between two ticks of the driver's task.
    pub heartbeat: Duration,
    /// `/live` says no when the last tick is older than this.
    pub heartbeat_limit: Duration,
    /// `/ready`: from connecting to the answer of one `SELECT 1`.
    pub ready_probe: Duration,
    /// How long `/ready` repeats what it has found.
    pub ready_max_age: Duration,
}

impl Timeouts {
    /// For an apply of a spec with so many databases.
    pub fn apply(&self, databases: usize) -> Duration {
        let databases = u32::try_from(databases).unwrap_or(u32::MAX);
        self.sql_apply.saturating_add(self.sql_apply_per_database.saturating_mul(databases))
    }
}

impl From<&Timeouts> for SessionDeadlines {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            connect: timeouts.sql_connect,
            statement: timeouts.sql_statement,
            lock: timeouts.sql_lock,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            postgres_ready: Duration::from_secs(60),
            stop_on_signal: Duration::from_secs(7),
            stop_fast: Duration::from_secs(60),
            stop_quit: Duration::from_secs(5),
            stop_kill: Duration::from_secs(5),
            stale_fast: Duration::from_secs(5),
            helper: Duration::from_secs(10),
            log_drain: Duration::from_secs(1),
            log_flush: Duration::from_secs(1),
            safekeeper_answer: Duration::from_millis(300),
            probe: Duration::from_secs(5),
            sync: Duration::from_secs(300),
            shutdown_sync: Duration::from_secs(30),
            basebackup: BasebackupLimits::default(),
            lease: LeaseLimits::default(),
            progress_log: Duration::from_secs(5),
            sql_connect: Duration::from_secs(10),
            sql_statement: Duration::from_secs(120),
            sql_no_slot: Duration::from_secs(60),
            sql_no_slot_pause: Duration::from_millis(100),
            sql_lock: Duration::from_secs(30),
            sql_apply: Duration::from_secs(3600),
            sql_apply_per_database: Duration::from_secs(5),
            catalog_turn: Duration::from_secs(150),
            background_end: Duration::from_secs(1),
            writability: Duration::from_secs(300),
            dump_silence: Duration::from_secs(300),
            dump_client: Duration::from_secs(60),
            communicator: Duration::from_secs(10),
            tls: WatchLimits::default(),
            control_plane: Patience {
                connect: Duration::from_secs(5),
                request: Duration::from_secs(30),
                total: Duration::from_secs(30),
            },
            control_plane_refresh: Patience {
                connect: Duration::from_secs(2),
                request: Duration::from_secs(10),
                total: Duration::from_secs(2),
            },
            reload: Duration::from_secs(5),
            refresh_pause: Duration::from_secs(5),
            refresh_pause_max: Duration::from_secs(60),
            linger_failed: Duration::from_secs(30),
            linger_fast: Duration::from_secs(30),
            linger_immediate: Duration::from_millis(300),
            http_shutdown: Duration::from_millis(500),
            initdb: Duration::from_secs(60),
            debugger: Duration::from_secs(6),
            last_children: Duration::from_millis(500),
            pgbouncer: PgbouncerLimits::default(),
            local_proxy_pid: Duration::from_secs(1),
            rsyslog_restart: Duration::from_secs(8),
            vm_helper: Duration::from_secs(60),
            extensions: DownloadLimits::default(),
            lfc: LfcLimits::default(),
            promotion: PromotionLimits::default(),
            monitor: MonitorLimits::default(),
            audit_gc_every: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            heartbeat_limit: Duration::from_secs(10),
            ready_probe: Duration::from_secs(2),
            ready_max_age: Duration::from_secs(1),
        }
    }
}
