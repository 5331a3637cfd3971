//! The size of the local file cache of Postgres (08 §5): the formula, and the SQL that sets it.
//!
//! The setting is written with `ALTER SYSTEM`, so it outranks `postgresql.conf` until PGDATA is made
//! anew. Invariants: a size counts as set only when a session sees it in force; every step has a
//! deadline; a lost session is made again, and the whole step repeated once.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;

use super::policy::{MIB, part};
use crate::postgres::install::PgVersion;
use crate::secret::Secret;
use crate::sql::{Row, Session, SessionConfig, SessionDeadlines, SessionError, TypedRow};

/// `application_name` if the connection string has none.
const APPLICATION_NAME: &str = "vm-monitor";

/// Memory that the cache must leave free.
const KEPT_FREE: u64 = 256 * MIB;
/// The largest part of the memory that the cache may have.
const LARGEST: f64 = 0.75;
/// Memory that a byte of the cache needs, with what is reserved while it grows.
const PER_BYTE: f64 = 1.1;

/// Pause between two looks at the setting after a reload, which Postgres does not report.
const LOOK: Duration = Duration::from_millis(5);

/// The limit of the cache in a machine with so many bytes of memory; whole MiB, in bytes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the contract computes in double precision and truncates"
)]
pub(super) fn size(total: u64) -> u64 {
    let rest = total.saturating_sub(KEPT_FREE);
    let growing = (rest as f64 / PER_BYTE) as u64;
    growing.min(part(total, LARGEST)) / MIB * MIB
}

/// How long the SQL may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCacheLimits {
    /// One session.
    pub connect: Duration,
    /// A change of the size, with its connection and its repetition.
    pub change: Duration,
}

impl Default for FileCacheLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), change: Duration::from_secs(5) }
    }
}

/// Why the size was not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CacheError {
    /// The text is not repeated: it may hold a password.
    #[error("--filecache-connstr is not a Postgres connection string")]
    BadConnstr,
    #[error(
        "this Postgres has no settings neon.max_file_cache_size and neon.file_cache_size_limit: \
         load the library neon, or set disable_lfc_resizing in the spec"
    )]
    NoSettings,
    #[error(transparent)]
    Sql(#[from] SessionError),
    #[error("Postgres did not finish within {limit:?}: {doing}")]
    Deadline { limit: Duration, doing: &'static str },
}

/// The cache, and the session that changes it. The login must be a superuser.
#[derive(Debug)]
pub(super) struct FileCache {
    config: Option<SessionConfig>,
    limits: FileCacheLimits,
    session: Option<Session>,
    /// For the error of a deadline.
    doing: &'static str,
}

impl FileCache {
    /// Does not connect yet.
    pub(super) fn new(
        connstr: &Secret<String>,
        version: PgVersion,
        limits: FileCacheLimits,
    ) -> Self {
        let config = connstr.expose().parse::<tokio_postgres::Config>().ok().map(|mut config| {
            if config.get_application_name().is_none() {
                config.application_name(APPLICATION_NAME);
            }
            SessionConfig::of_login(config, version)
        });
        Self { config, limits, session: None, doing: "" }
    }

    /// Sets the limit to `wanted` bytes, or to the maximum of the server if that is less. Returns
    /// the limit in force. Unless `always`, a limit that is in force already is not written again.
    pub(super) async fn set(&mut self, wanted: u64, always: bool) -> Result<u64, CacheError> {
        let limit = self.limits.change;
        let outcome = match timeout(limit, self.set_or_repeat(wanted, always)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CacheError::Deadline { limit, doing: self.doing }),
        };
        if outcome.is_err() {
            self.session = None;
        }
        outcome
    }

    async fn set_or_repeat(&mut self, wanted: u64, always: bool) -> Result<u64, CacheError> {
        match self.set_once(wanted, always).await {
            Err(CacheError::Sql(first)) if !first.is_time_limit() => {
                tracing::debug!("could not set the size of the file cache, once more: {first}");
                self.session = None;
                self.set_once(wanted, always).await
            }
            outcome => outcome,
        }
    }

    async fn set_once(&mut self, wanted: u64, always: bool) -> Result<u64, CacheError> {
        self.doing = "connecting";
        let open = match self.session.take().filter(|session| !session.is_closed()) {
            Some(open) => open,
            None => {
                let config = self.config.as_ref().ok_or(CacheError::BadConnstr)?;
                let (connect, statement) = (self.limits.connect, self.limits.change);
                let deadlines = SessionDeadlines { connect, statement, lock: statement };
                Session::connect(config, deadlines).await?
            }
        };
        let session = &*self.session.insert(open);
        self.doing = "reading the settings of the file cache";
        let (largest, present) = settings(session).await?;
        let limit = wanted.min(largest) / MIB;
        if !always && present.is(limit) {
            return Ok(limit * MIB);
        }
        self.doing = "ALTER SYSTEM SET neon.file_cache_size_limit";
        session.query(&format!("ALTER SYSTEM SET neon.file_cache_size_limit = {limit}")).await?;
        self.doing = "the new neon.file_cache_size_limit is not in force yet";
        let told = session.query("SELECT pg_catalog.pg_reload_conf()").await?;
        if !told.first().is_some_and(|row| TypedRow(row).flag(0) == Ok(true)) {
            return Err(SessionError::Answer("the reload was refused".to_owned()).into());
        }
        while !settings(session).await?.1.is(limit) {
            sleep(LOOK).await;
        }
        Ok(limit * MIB)
    }
}

/// A limit as Postgres shows it.
struct Present {
    /// With a unit; without one if no extension defines the setting.
    text: String,
    bytes: Option<u64>,
}

impl Present {
    /// Whether this is so many MiB.
    fn is(&self, mib: u64) -> bool {
        self.text == mib.to_string() || self.bytes == mib.checked_mul(MIB)
    }
}

/// The largest size in bytes, and the limit in force.
async fn settings(session: &Session) -> Result<(u64, Present), CacheError> {
    let rows = session.query(SETTINGS).await.map_err(|error| {
        if error.sqlstate() == Some(&SqlState::UNDEFINED_OBJECT) {
            CacheError::NoSettings
        } else {
            error.into()
        }
    })?;
    let row = rows.first().ok_or_else(|| SessionError::Answer("a row is missing".to_owned()))?;
    read(row).map_err(CacheError::Sql)
}

const SETTINGS: &str = "SELECT \
     pg_catalog.pg_size_bytes(pg_catalog.current_setting('neon.max_file_cache_size')), \
     pg_catalog.current_setting('neon.file_cache_size_limit'), \
     pg_catalog.pg_size_bytes(pg_catalog.current_setting('neon.file_cache_size_limit'))";

fn read(row: &Row) -> Result<(u64, Present), SessionError> {
    let row = TypedRow(row);
    // A negative number is 0: the server has no cache.
    let bytes = |column| row.number::<i64>(column).map(|it| u64::try_from(it).unwrap_or(0));
    Ok((bytes(0)?, Present { text: row.owned(1)?, bytes: Some(bytes(2)?) }))
}

#[cfg(test)]
mod tests;
