//! Which extensions are installed in how many databases (07 §2).
//!
//! ```text
//! databases ─► each one: pg_extension ─► groups ─► metric, one line in the log
//! ```
//!
//! Once after the start of a primary, then at long intervals, which [`mod@cadence`] decides. It needs
//! a session in every database, a few at a time. Invariant: a database that cannot be visited costs
//! its own numbers, not those of the others.

pub mod cadence;

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

use crate::catalog::session::{Session, SessionConfig, SessionDeadlines, SessionError};
use crate::telemetry::metrics::{InstalledExtension, Metrics};

/// `application_name` of these sessions.
pub const INSTALLED_EXTENSIONS: &str = "compute_ctl:get_installed_extensions";

/// Databases visited at the same time; few, since users need the connections.
const AT_ONCE: usize = 4;

/// Not those that refuse connections, nor what an interrupted DROP DATABASE has left. More than
/// this are not looked at.
const DATABASES: &str = "SELECT datname FROM pg_catalog.pg_database \
    WHERE datallowconn AND datconnlimit <> -2 LIMIT 500";

/// The owner is the bootstrap superuser, or a user.
const EXTENSIONS: &str = "SELECT extname, extversion, extowner = 10 FROM pg_catalog.pg_extension";

/// Name, version, owned by the bootstrap superuser.
type Key = (String, String, bool);

/// Visits all databases, sets the metric and writes the line that log pipelines look for.
///
/// # Errors
/// The list of databases cannot be had. Nothing is set then.
pub async fn collect(
    config: &SessionConfig,
    deadlines: SessionDeadlines,
    metrics: &Metrics,
) -> Result<(), SessionError> {
    let databases = {
        let session = Session::connect(config, deadlines).await?;
        let rows = session.query(DATABASES).await?;
        rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<_>, _>>()?
    };
    let mut visits = stream::iter(databases)
        .map(|database| async move {
            let found = visit(config, deadlines, &database).await;
            (database, found)
        })
        .buffer_unordered(AT_ONCE);
    let mut groups = BTreeMap::new();
    while let Some((database, found)) = visits.next().await {
        match found {
            Ok(found) => found.into_iter().for_each(|key| count(&mut groups, key)),
            Err(error) if is_gone(&error) => {
                tracing::debug!("no extension statistics from database {database:?}: {error}");
            }
            Err(error) => {
                tracing::warn!("no extension statistics from database {database:?}: {error}");
            }
        }
    }
    let found: Vec<_> = groups.into_iter().map(extension).collect();
    metrics.set_installed_extensions(&found);
    tracing::info!("[NEON_EXT_STAT] {}", line(&found));
    Ok(())
}

async fn visit(
    config: &SessionConfig,
    deadlines: SessionDeadlines,
    database: &str,
) -> Result<Vec<Key>, SessionError> {
    let mut config = config.clone();
    let session = Session::connect(config.dbname(database), deadlines).await?;
    let rows = session.query(EXTENSIONS).await?;
    rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)? == "t"))).collect()
}

fn column(row: &SimpleQueryRow, at: usize) -> Result<String, SessionError> {
    let text = row.try_get(at).map_err(|error| SessionError::Answer(error.to_string()))?;
    text.map(str::to_owned).ok_or_else(|| SessionError::Answer("a column is NULL".to_owned()))
}

/// Dropped, made inaccessible, or invalid since the list was read.
fn is_gone(error: &SessionError) -> bool {
    let gone = [
        SqlState::UNDEFINED_DATABASE,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        // DROP DATABASE … WITH (FORCE).
        SqlState::ADMIN_SHUTDOWN,
        SqlState::DATABASE_DROPPED,
    ];
    error.sqlstate().is_some_and(|state| gone.contains(state))
}

fn count(groups: &mut BTreeMap<Key, u32>, key: Key) {
    let databases = groups.entry(key).or_default();
    *databases = databases.saturating_add(1);
}

fn extension(((name, version, owned_by_superuser), databases): (Key, u32)) -> InstalledExtension {
    InstalledExtension { name, version, owned_by_superuser, databases }
}

/// As log pipelines parse it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    extensions: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    extname: &'a str,
    version: &'a str,
    n_databases: u32,
    owned_by_superuser: &'static str,
}

impl<'a> Entry<'a> {
    fn of(found: &'a InstalledExtension) -> Self {
        Self {
            extname: &found.name,
            version: &found.version,
            n_databases: found.databases,
            owned_by_superuser: if found.owned_by_superuser { "1" } else { "0" },
        }
    }
}

fn line(found: &[InstalledExtension]) -> String {
    let line = Line { extensions: found.iter().map(Entry::of).collect() };
    // Texts and numbers always can be.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_document() {
        let key = |name: &str, version: &str, owned| (name.to_owned(), version.to_owned(), owned);
        let mut groups = BTreeMap::new();
        for _ in 0..4 {
            count(&mut groups, key("plpgsql", "1.0", true));
        }
        count(&mut groups, key("hstore", "1.8", false));
        count(&mut groups, key("hstore", "1.8", true));
        let found: Vec<_> = groups.into_iter().map(extension).collect();
        let expected = concat!(
            r#"{"extensions":[{"extname":"hstore","version":"1.8","n_databases":1,"owned_by_superuser":"0"},"#,
            r#"{"extname":"hstore","version":"1.8","n_databases":1,"owned_by_superuser":"1"},"#,
            r#"{"extname":"plpgsql","version":"1.0","n_databases":4,"owned_by_superuser":"1"}]}"#
        );
        assert_eq!(line(&found), expected);
    }
}
