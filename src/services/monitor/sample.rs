//! The sample of one check of Postgres, taken in one round trip (07 §1.2).

use chrono::{DateTime, Utc};

use crate::sql::{Row, Session, SessionError};

/// One row, with the columns that [`Sample::read`] takes.
const CHECK: &str = include_str!("check.sql");
/// The query for the totals, sent if they are watched.
const COUNTERS: &str = include_str!("counters.sql");

/// Totals over the databases of users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Microseconds in which statements were run.
    pub active_time: i64,
    /// Sessions begun.
    pub sessions: i64,
}

/// Sessions and other backends, without `cloud_admin` and this program's own sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Sessions in a statement, or with a state that Postgres does not show.
    pub active: u64,
    /// Sessions in an open transaction, between statements.
    pub idle_in_transaction: u64,
    /// Idle sessions.
    pub idle: u64,
    /// The latest time at which an idle session ended its last statement.
    pub idle_since: Option<DateTime<Utc>>,
    /// Walsenders, except those that send WAL to safekeepers.
    pub walsenders: u64,
    /// Workers of subscriptions.
    pub subscriptions: u64,
    /// Autovacuum workers.
    pub autovacuum: u64,
    /// Present if the totals are watched.
    pub counters: Option<Counters>,
}

impl Sample {
    /// Queries Postgres.
    ///
    /// # Errors
    /// Postgres refuses or does not answer in time, or its answer is not of the expected shape.
    pub(crate) async fn take(session: &Session, counters: bool) -> Result<Self, SessionError> {
        let rows = if counters {
            session.query(&format!("{CHECK};\n{COUNTERS}")).await?
        } else {
            session.query(CHECK).await?
        };
        Self::read(&rows, counters)
    }

    fn read(rows: &[Row], counters: bool) -> Result<Self, SessionError> {
        let missing = || SessionError::Answer("a row is missing".to_owned());
        let row = rows.first().ok_or_else(missing)?;
        let idle_since = number(row, "idle_since")?.and_then(DateTime::from_timestamp_micros);
        let counters = if counters {
            let row = rows.get(1).ok_or_else(missing)?;
            let total = |name| number(row, name).map(Option::unwrap_or_default);
            Some(Counters { active_time: total("active_time")?, sessions: total("sessions")? })
        } else {
            None
        };
        Ok(Self {
            active: count(row, "active")?,
            idle_in_transaction: count(row, "idle_in_transaction")?,
            idle: count(row, "idle")?,
            idle_since,
            walsenders: count(row, "walsenders")?,
            subscriptions: count(row, "subscriptions")?,
            autovacuum: count(row, "autovacuum")?,
            counters,
        })
    }
}

fn count(row: &Row, column: &str) -> Result<u64, SessionError> {
    let number = number(row, column)?.and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| SessionError::Answer(format!("{column} is not a count")))
}

fn number(row: &Row, column: &str) -> Result<Option<i64>, SessionError> {
    let bad = |error: &dyn std::error::Error| SessionError::Answer(format!("{column}: {error}"));
    let text = row.try_get(row.column(column)?)?;
    text.map(|text| text.parse().map_err(|error: std::num::ParseIntError| bad(&error))).transpose()
}
