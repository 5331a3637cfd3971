//! The activity of users as a compute reports it.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, NoTls};

use crate::support::assertions::until;
use crate::support::bed::Bed;
use crate::support::process::Compute;

/// The monitor's session, with the time of its last look.
const LOOK: &str = "SELECT query_start FROM pg_stat_activity \
                    WHERE application_name = 'compute_ctl:compute_monitor' AND query_start IS NOT NULL";

impl Bed {
    /// Switches off everything else that would make it active, so that only users and the tests do.
    pub fn without_autovacuum(&mut self) -> &mut Self {
        self.spec.typed("autovacuum", "off", "bool");
        self
    }
}

impl Compute {
    /// Member `last_active`.
    pub async fn last_active(&self) -> Option<DateTime<Utc>> {
        let document = self.get("/status").await.1;
        let text = document["last_active"].as_str()?;
        assert!(text.ends_with("+00:00"), "{text}");
        Some(DateTime::parse_from_rfc3339(text).unwrap().to_utc())
    }

    /// The current number for a reason; `None` if the reason was never seen.
    pub async fn reason(&self, name: &str) -> Option<u64> {
        let document = self.get("/status").await.1;
        let reasons = document["extra"]["activity"].as_array()?.clone();
        reasons.iter().find(|reason| reason["reason"] == name)?["count"].as_u64()
    }

    /// Waits until the number for a reason is this.
    pub async fn wait_for_reason(&self, name: &str, count: u64) {
        until(&format!("{name} is {count}"), || async { self.reason(name).await == Some(count) })
            .await;
    }

    /// Waits for so many complete looks of the monitor. All queries come from `cloud_admin`, which
    /// must not count as activity.
    pub async fn wait_for_looks(&self, count: usize) {
        let sql = self.sql().await;
        // The look in progress may have begun earlier.
        for _ in 0..=count {
            let before = look(&sql).await;
            until("the monitor has looked", || async { look(&sql).await != before }).await;
        }
    }

    /// Waits until `last_active` moves on its own.
    pub async fn wait_until_active(&self) {
        for _ in 0..2 {
            let before = self.last_active().await;
            until("last_active moves", || async { self.last_active().await > before }).await;
        }
    }

    /// Checks that `last_active` does not move, and returns it.
    pub async fn stays_inactive(&self) -> Option<DateTime<Utc>> {
        self.wait_for_looks(1).await;
        let before = self.last_active().await;
        self.wait_for_looks(3).await;
        assert_eq!(self.last_active().await, before, "{:?}", self.get("/status").await);
        before
    }

    /// A session of a user.
    pub async fn session_of(&self, user: &str, database: &str) -> Client {
        let mut config: tokio_postgres::Config = self.connstr.parse().unwrap();
        let (client, connection) = config.user(user).dbname(database).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let prefix = format!("{name} ");
        let value = text.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }
}

async fn look(sql: &Client) -> Option<String> {
    let rows = sql.simple_query(LOOK).await.unwrap();
    rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}
