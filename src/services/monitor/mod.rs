//! The compute monitor (07 §1): when users were last active, by which a control plane decides to
//! suspend the compute, and for how long Postgres has not answered.
//!
//! ```text
//! session ─► sample (one round trip) ─► activity (rules) ─► last_active, reasons
//!     └─ no session, no answer ──────► downtime ──────────► metrics, log
//! ```
//!
//! It starts when the compute is running, and ends before Postgres is stopped. Invariants: one
//! session at a time, under `cloud_admin`; every pass ends, even if Postgres hangs; sessions of
//! this program do not count as activity.

pub(crate) mod activity;
mod downtime;
mod sample;

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::os::kernel_timer::KernelTimer;
use crate::sql::{Session, SessionConfig, SessionDeadlines, SessionError, visited_within};
use crate::telemetry::metrics::Metrics;
use activity::{Activity, ActivityReason};
use downtime::Downtime;
use sample::Sample;

/// `application_name` of the monitor.
pub const COMPUTE_MONITOR: &str = "compute_ctl:compute_monitor";

/// Delay until a session that has ended appears in the statistics: PostgreSQL 14 collects them in
/// another process, every half second.
const STATISTICS_DELAY: Duration = Duration::from_secs(2);

/// How often the monitor checks Postgres, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorLimits {
    /// Between two checks, and after a first failure.
    pub pause: Duration,
    /// Longest pause after further failures. Short, so that a Postgres that answers again does not
    /// count as down for long.
    pub pause_max: Duration,
    /// One connect.
    pub connect: Duration,
    /// One check.
    pub check: Duration,
}

impl Default for MonitorLimits {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(1),
            connect: Duration::from_secs(3),
            check: Duration::from_secs(3),
        }
    }
}

impl From<MonitorLimits> for SessionDeadlines {
    fn from(limits: MonitorLimits) -> Self {
        // The check takes no locks, so the lock deadline equals the statement deadline.
        Self { connect: limits.connect, statement: limits.check, lock: limits.check }
    }
}

/// Checks one Postgres again and again.
#[derive(Debug)]
pub struct Monitor {
    config: SessionConfig,
    limits: MonitorLimits,
    /// Whether it also watches the totals of the statistics.
    counters: bool,
    activity: Activity,
    downtime: Downtime,
}

/// What a check has shown.
#[derive(Debug)]
pub enum Seen<'a> {
    /// Postgres answered.
    Active {
        /// The last moment of activity.
        last_active: Option<DateTime<Utc>>,
        /// The reasons behind it.
        reasons: Vec<ActivityReason>,
    },
    /// There was no connection to be had.
    NoConnection(&'a SessionError),
    /// Postgres did not answer on an open connection.
    NoAnswer(&'a SessionError),
}

/// Why a pass failed.
#[derive(Debug)]
enum Failure {
    Closed,
    Connect(SessionError),
    Check(SessionError),
}

impl Monitor {
    /// Touches nothing yet. `counters`: the feature `activity_monitor_experimental`.
    pub fn new(
        config: SessionConfig,
        limits: MonitorLimits,
        counters: bool,
        metrics: Metrics,
    ) -> Self {
        let downtime = Downtime::new(metrics);
        Self { config, limits, counters, activity: Activity::default(), downtime }
    }

    /// Checks again and again and publishes the results, until the caller drops this. While the
    /// compute is `ending`, failures do not count as downtime.
    pub async fn run(
        mut self,
        publish: impl Fn(Seen<'_>),
        ending: impl Fn() -> bool,
    ) -> Infallible {
        let mut session = None;
        let mut pause = self.limits.pause;
        let mut timer = KernelTimer::new();
        loop {
            match self.pass(&mut session).await {
                Ok(()) => {
                    self.downtime.up();
                    let (last_active, reasons) =
                        (self.activity.last_active(), self.activity.reasons());
                    publish(Seen::Active { last_active, reasons });
                    pause = self.limits.pause;
                    timer.sleep(pause).await;
                }
                Err(failure) => {
                    // Even if the connection may still be open: Postgres did not answer on it.
                    session = None;
                    if !ending() {
                        self.downtime.down();
                        self.say(&failure);
                    }
                    match &failure {
                        // An error is an answer too, and ends the session in many cases. The next
                        // pass connects again, and shows whether Postgres still answers.
                        Failure::Closed | Failure::Check(SessionError::Statement(_)) => {}
                        Failure::Connect(error) => publish(Seen::NoConnection(error)),
                        Failure::Check(error) => publish(Seen::NoAnswer(error)),
                    }
                    // After a closed session, a new connection may work at once.
                    if !matches!(failure, Failure::Closed) {
                        timer.sleep(pause).await;
                        pause = (pause * 2).min(self.limits.pause_max);
                    }
                }
            }
        }
    }

    /// Connects if there is no session, and takes a sample.
    async fn pass(&mut self, session: &mut Option<Session>) -> Result<(), Failure> {
        let open = match session.take() {
            Some(open) if open.is_closed() => return Err(Failure::Closed),
            Some(open) => open,
            None => {
                let connect = Session::connect(&self.config, self.limits.into());
                connect.await.map_err(Failure::Connect)?
            }
        };
        let open = session.insert(open);
        let sample = Sample::take(open, self.counters).await.map_err(Failure::Check)?;
        self.activity.take(&sample, Utc::now(), visited_within(STATISTICS_DELAY));
        Ok(())
    }

    fn say(&self, failure: &Failure) {
        let info = self.downtime.to_string();
        let downtime_info = info.as_str();
        match failure {
            Failure::Closed => tracing::info!(
                downtime_info,
                "connection to Postgres is closed, trying to reconnect"
            ),
            // The error itself says which step failed.
            Failure::Connect(error) => tracing::info!(downtime_info, "{error}, retrying"),
            Failure::Check(error) => {
                tracing::error!(downtime_info, "could not check Postgres: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::install::PgVersion;
    use crate::sql::session_config;
    use std::time::Instant;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// The pauses stay short for a server that is back, and do not burden one that is down.
    #[tokio::test]
    async fn pauses_grow_up_to_a_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgresql://u@{}/d", listener.local_addr().unwrap());
        let config = session_config(&url, COMPUTE_MONITOR, PgVersion::V17).unwrap();
        let limits = MonitorLimits {
            pause: Duration::from_millis(10),
            pause_max: Duration::from_millis(80),
            ..MonitorLimits::default()
        };
        let metrics = Metrics::new().unwrap();
        let monitor = Monitor::new(config, limits, false, metrics.clone());
        let began = Instant::now();
        let (failures, mut failed) = tokio::sync::watch::channel(0);
        let publish = move |seen: Seen<'_>| match seen {
            Seen::NoConnection(_) => failures.send_modify(|count| *count += 1),
            other => panic!("{other:?}"),
        };
        let watching = tokio::spawn(monitor.run(publish, || false));
        // The port accepts connections, but nothing answers. If the pauses had no limit, the last
        // ones would take minutes.
        for _ in 0..15 {
            let accepted = timeout(Duration::from_secs(30), listener.accept()).await;
            drop(accepted.expect("another try").unwrap());
        }
        // 10, 20, 40, and 80 eleven times; the sum is less only if the pauses do not grow.
        assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
        assert!(*failed.borrow_and_update() >= 14, "each failure is published");
        watching.abort();
        assert!(metrics.pg_downtime_ms.get() > 0);
    }
}
