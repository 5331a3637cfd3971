//! Deadlines for the operations of Postgres.

use std::time::Duration;

/// Deadlines around the child process. `Default` gives the values of production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostgresLimits {
    /// From the spawn to `ready` in `postmaster.pid` (01 §10).
    pub ready: Duration,
    /// SIGINT rung of `/terminate`: Postgres writes its shutdown checkpoint and waits for the
    /// safekeepers.
    pub fast: Duration,
    /// SIGQUIT rung: backends end without cleaning up.
    pub quit: Duration,
    /// SIGKILL rung: the kernel ends the process.
    pub kill: Duration,
    /// SIGINT rung for a postmaster that a killed predecessor left on this PGDATA. Shorter than
    /// [`Self::fast`], because its data directory is about to be thrown away.
    pub stale_fast: Duration,
    /// Short helper programs (`pg_config --version`).
    pub helper: Duration,
    /// Reading the rest of the log of a child that has ended. Another process may still hold the
    /// write end of the pipe, so an end of file need not come.
    pub log_drain: Duration,
    /// From SIGHUP until Postgres has loaded its configuration. The control plane waits 10 s for
    /// the whole reconfiguration (09 §3).
    pub reload: Duration,
    /// `initdb` of the warm-up (01 §6).
    pub initdb: Duration,
    /// A debugger on the core dumps of Postgres, all of them together. The process must end within
    /// 10 s after Postgres (01 §18.4).
    pub debugger: Duration,
}

impl Default for PostgresLimits {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(60),
            fast: Duration::from_secs(60),
            quit: Duration::from_secs(5),
            kill: Duration::from_secs(5),
            stale_fast: Duration::from_secs(5),
            helper: Duration::from_secs(10),
            log_drain: Duration::from_secs(1),
            reload: Duration::from_secs(5),
            initdb: Duration::from_secs(60),
            debugger: Duration::from_secs(6),
        }
    }
}
