//! SQL on the replica during its promotion (07 §5.3).
//!
//! One session runs all steps, so that the end of the server in between is noticed. Between the
//! announcement and the moment when the new `postgresql.conf` is in place, `ALTER SYSTEM` makes
//! two settings override that file: from its first moment as a primary the server writes to its
//! safekeepers and waits for them. The caller of the announcement must end it with
//! [`Standby::retract`].

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Row, types::FromSql};
use tokio_util::sync::CancellationToken;

use super::call::CallError;
use super::config::SessionConfig;
use super::error::SessionError;
use super::maintenance::MaintenanceSession;
use super::quote::literal;
use super::raw::SessionDeadlines;
use crate::spec::Lsn;

const SAFEKEEPERS: &str = "neon.safekeepers";
const SYNCHRONOUS: &str = "synchronous_standby_names";
/// Name of the safekeepers' WAL receiver.
const WALPROPOSER: &str = "walproposer";

const POSITION: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
                        pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text";
const PROMOTE: &str = "SELECT pg_catalog.pg_promote()";
const PROMOTE_LATER: &str = "SELECT pg_catalog.pg_promote(false)";
const READ_ONLY: &str = "SELECT pg_catalog.current_setting('transaction_read_only')";

/// Limits of the steps of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromotionLimits {
    /// For the replica to replay what the old primary has written.
    pub catch_up: Duration,
    /// Pause between two checks of that: Postgres does not report the progress by itself.
    pub look: Duration,
    /// For one statement that does not wait.
    pub statement: Duration,
    /// `pg_promote()`, which gives up by itself after 60 s.
    pub promote: Duration,
}

impl Default for PromotionLimits {
    fn default() -> Self {
        Self {
            catch_up: Duration::from_secs(20),
            look: Duration::from_millis(50),
            statement: Duration::from_secs(10),
            promote: Duration::from_secs(65),
        }
    }
}

/// A session on the server that becomes the primary.
#[derive(Debug)]
pub(crate) struct Standby {
    session: MaintenanceSession,
    limits: PromotionLimits,
    /// Settings that [`Standby::announce`] has set with `ALTER SYSTEM`.
    announced: Vec<&'static str>,
}

/// Replay progress of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The server is still a replica.
    pub in_recovery: bool,
    /// `None` before the first record.
    pub replayed: Option<Lsn>,
}

impl Standby {
    /// Connects to the server.
    ///
    /// # Errors
    /// With the documented context.
    pub(crate) async fn connect(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
        limits: PromotionLimits,
    ) -> anyhow::Result<Self> {
        let session = MaintenanceSession::connect(config, deadlines).await;
        let session = session.context("connecting to postgres")?;
        Ok(Self { session, limits, announced: Vec::new() })
    }

    /// Waits until everything up to `wanted` is replayed.
    ///
    /// # Errors
    /// Not in time, or the server does not answer.
    pub(crate) async fn catch_up(&self, wanted: Lsn) -> anyhow::Result<Position> {
        let began = Instant::now();
        loop {
            let position = self.position().await.context("getting last replay lsn")?;
            if position.replayed >= Some(wanted) {
                return Ok(position);
            }
            if began.elapsed() + self.limits.look > self.limits.catch_up {
                let replayed = position.replayed.unwrap_or(Lsn::INVALID);
                bail!(
                    "didn't catch up with primary in 20 retries: replayed up to {replayed}, \
                     wanted {wanted}"
                );
            }
            tokio::time::sleep(self.limits.look).await;
        }
    }

    async fn position(&self) -> anyhow::Result<Position> {
        let row = self.row(POSITION, self.limits.statement).await?;
        let replayed: Option<&str> = column(&row, 1)?;
        let replayed = replayed.map(str::parse).transpose()?;
        Ok(Position { in_recovery: column(&row, 0)?, replayed })
    }

    /// Sets the safekeepers with `ALTER SYSTEM`, and makes commits wait for them. Both settings
    /// take effect at the next reload. A vanilla server may not know the former, and does not need
    /// it.
    ///
    /// # Errors
    /// With the documented contexts; see [`Self::retract`].
    pub(crate) async fn announce(&mut self, safekeepers: &str) -> anyhow::Result<()> {
        match self.alter_system(SAFEKEEPERS, safekeepers).await {
            Err(error) if is_unknown(&error) => {
                tracing::info!("this server does not know {SAFEKEEPERS}, so it is not set");
            }
            done => done.context("setting safekeepers")?,
        }
        let done = self.alter_system(SYNCHRONOUS, WALPROPOSER).await;
        done.context("setting synchronous_standby_names")
    }

    async fn alter_system(&mut self, name: &'static str, value: &str) -> Result<(), CallError> {
        let set = format!("ALTER SYSTEM SET {name} = {}", literal(value));
        // Noted also when no answer comes: the server may still have done it.
        self.announced.push(name);
        match self.call(&set, self.limits.statement).await {
            Ok(_) => Ok(()),
            Err(error) => {
                if is_unknown(&error) {
                    self.announced.pop();
                }
                Err(error)
            }
        }
    }

    /// Resets the settings of [`Self::announce`]; takes effect at the next reload.
    ///
    /// # Errors
    /// The first setting that could not be reset.
    pub(crate) async fn retract(&mut self) -> anyhow::Result<()> {
        while let Some(name) = self.announced.last() {
            let reset = format!("ALTER SYSTEM RESET {name}");
            match self.call(&reset, self.limits.statement).await {
                Err(error) if !is_unknown(&error) => {
                    return Err(error).with_context(|| format!("resetting {name}"));
                }
                _ => self.announced.pop(),
            };
        }
        Ok(())
    }

    /// Makes [`Self::retract`] reset the settings of an earlier attempt.
    pub(crate) fn assume_announced(&mut self) {
        self.announced = vec![SAFEKEEPERS, SYNCHRONOUS];
    }

    /// Whether [`Self::retract`] has settings to reset.
    pub(crate) const fn has_announced(&self) -> bool {
        !self.announced.is_empty()
    }

    /// Makes the server leave recovery, and waits for that. The state of the server counts, not
    /// the result of the function (07 W31).
    ///
    /// # Errors
    /// The server is still in recovery. It may leave it later.
    pub(crate) async fn promote(&self) -> anyhow::Result<()> {
        let said = async { column::<bool>(&self.row(PROMOTE, self.limits.promote).await?, 0) };
        let said = said.await;
        match (&said, self.position().await) {
            (Ok(true), _) | (_, Ok(Position { in_recovery: false, .. })) => Ok(()),
            _ => match said.context("pg_promote") {
                Ok(_) => bail!("pg_promote() failed"),
                Err(error) => Err(error),
            },
        }
    }

    /// Makes the server leave recovery at some time; for tests.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn promote_unwatched(&self) -> anyhow::Result<()> {
        self.row(PROMOTE_LATER, self.limits.statement).await.map(drop)
    }

    /// Whether the server is no longer a replica.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn has_left_recovery(&self) -> anyhow::Result<bool> {
        Ok(!self.position().await?.in_recovery)
    }

    /// Checks that the server accepts writes.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn check_writable(&self) -> anyhow::Result<()> {
        let row = self.row(READ_ONLY, self.limits.statement).await;
        let row = row.context("getting transaction_read_only")?;
        let read_only: &str = column(&row, 0)?;
        ensure!(read_only != "on", "replica in read only mode after promotion");
        Ok(())
    }

    async fn row(&self, sql: &str, limit: Duration) -> anyhow::Result<Row> {
        let rows = self.call(sql, limit).await?;
        rows.into_iter().next().context("Postgres answered without a row")
    }

    async fn call(&self, sql: &str, limit: Duration) -> Result<Vec<Row>, CallError> {
        // A caller that gives up drops the session.
        let never = CancellationToken::new();
        self.session.session().call(sql, &[], limit, &never).await
    }
}

/// Whether the server does not know the setting.
fn is_unknown(error: &CallError) -> bool {
    matches!(error, CallError::Session(error)
        if error.sqlstate() == Some(&SqlState::UNDEFINED_OBJECT))
}

/// A column of the row, of the expected type.
fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> anyhow::Result<T> {
    Ok(row.try_get(at).map_err(|error| SessionError::Answer(error.to_string()))?)
}
