//! The compute monitor (07 §1): when users were active, which control planes suspend computes by,
//! and for how long Postgres has not answered.
//!
//! ```text
//! session ─► sample (one round trip) ─► activity (rules) ─► last_active, reasons
//!     └─ no session, no answer ──────► downtime ──────────► metrics, log
//! ```
//!
//! Begun when the compute is running, and ended before Postgres is stopped. Invariants: one session
//! at a time, under `cloud_admin`; every pass ends, whatever hangs; sessions of ours are no activity.

pub(crate) mod activity;
mod downtime;
mod sample;

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;

use crate::sql::{Session, SessionConfig, SessionDeadlines, SessionError, visited_within};
use crate::telemetry::metrics::Metrics;
use activity::{Activity, ActivityReason};
use downtime::Downtime;
use sample::Sample;

/// `application_name` of the monitor.
pub const COMPUTE_MONITOR: &str = "compute_ctl:compute_monitor";

/// A session that has ended appears in the statistics this late: PostgreSQL 14 collects them in
/// another process, every half second.
const STATISTICS_DELAY: Duration = Duration::from_secs(2);

/// How often it looks, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorLimits {
    /// Between two looks, and after a first failure.
    pub pause: Duration,
    /// After a later one. Short: a Postgres that is back must not be called down.
    pub pause_max: Duration,
    /// One connect.
    pub connect: Duration,
    /// One look.
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
        // Not to be told whose lock it waits for: there is none to wait for.
        Self { connect: limits.connect, statement: limits.check, lock: limits.check }
    }
}

/// Looks at one Postgres for as long as it is there.
#[derive(Debug)]
pub struct Monitor {
    config: SessionConfig,
    limits: MonitorLimits,
    /// Whether the totals of statistics are watched too.
    counters: bool,
    activity: Activity,
    downtime: Downtime,
}

/// Why a pass was none.
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

    /// Looks again and again and publishes what it sees; the caller drops it. While the compute is
    /// `ending` nothing is called down.
    pub async fn run(
        mut self,
        publish: impl Fn(Option<DateTime<Utc>>, Vec<ActivityReason>),
        ending: impl Fn() -> bool,
    ) -> Infallible {
        let mut session = None;
        let mut pause = self.limits.pause;
        loop {
            match self.pass(&mut session).await {
                Ok(()) => {
                    self.downtime.up();
                    publish(self.activity.last_active(), self.activity.reasons());
                    pause = self.limits.pause;
                    sleep(pause).await;
                }
                Err(failure) => {
                    // Also where the connection might still live: it has not answered.
                    session = None;
                    if !ending() {
                        self.downtime.down();
                        self.say(&failure);
                    }
                    // What has just worked may work at once.
                    if !matches!(failure, Failure::Closed) {
                        sleep(pause).await;
                        pause = (pause * 2).min(self.limits.pause_max);
                    }
                }
            }
        }
    }

    /// Connects if there is no session, and looks.
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
            // It says itself what could not be done.
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

    /// Short enough for a server that is back, and no burden for one that is not.
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
        let watching = tokio::spawn(monitor.run(|_, _| {}, || false));
        // Nobody there behind an open door. If they went on growing, the last pauses would take
        // minutes.
        for _ in 0..15 {
            let accepted = timeout(Duration::from_secs(30), listener.accept()).await;
            drop(accepted.expect("another try").unwrap());
        }
        // 10, 20, 40, and 80 eleven times; less only if they did not grow.
        assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
        watching.abort();
        assert!(metrics.pg_downtime_ms.get() > 0);
    }
}
