//! Which extensions are installed in how many databases (07 §2).
//!
//! ```text
//! databases ─► each one: pg_extension ─► groups ─► metric, one line in the log
//! ```
//!
//! Collected once after the start of a primary, then at long intervals, which [`mod@cadence`]
//! decides. It needs a session in every database, a few at a time. Invariant: a database that
//! cannot be visited counts as it did at its last visit, and does not change the numbers of others.

pub(crate) mod cadence;

use std::collections::{BTreeMap, HashMap};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Serialize;
use tokio_postgres::error::SqlState;

use crate::sql::{Row, Session, SessionConfig, SessionDeadlines, SessionError, shown};
use crate::telemetry::metrics::{InstalledExtension, Metrics};

/// `application_name` of these sessions.
pub const INSTALLED_EXTENSIONS: &str = "compute_ctl:get_installed_extensions";

/// Databases visited at the same time; few, since users need the connections.
const AT_ONCE: usize = 4;

/// Largest number of databases visited.
const MAX_LISTED: usize = 500;

/// Leaves out databases that refuse connections and those that an interrupted DROP DATABASE has
/// left. The oldest first, so that those beyond the limit are the same each time.
const DATABASES: &str = "SELECT datname FROM pg_catalog.pg_database \
    WHERE datallowconn AND datconnlimit OPERATOR(pg_catalog.<>) -2 ORDER BY oid";

/// The owner is the bootstrap superuser, or a user.
const EXTENSIONS: &str = "SELECT extname, extversion, extowner OPERATOR(pg_catalog.=) 10 \
    FROM pg_catalog.pg_extension";

/// Name, version, owned by the bootstrap superuser.
type Key = (String, String, bool);

/// The extensions found in each database at its last successful visit, by [`Row::name`].
#[derive(Debug, Default)]
pub struct InstalledExtensions(HashMap<String, Vec<Key>>);

impl InstalledExtensions {
    /// Visits all databases, sets the metric and writes the line that log pipelines look for.
    ///
    /// # Errors
    /// The list of databases cannot be read. The metric then stays as it is.
    pub async fn collect(
        &mut self,
        config: &SessionConfig,
        deadlines: SessionDeadlines,
        metrics: &Metrics,
    ) -> Result<(), SessionError> {
        let databases = {
            let session = Session::connect(config, deadlines).await?;
            let rows = session.query(DATABASES).await?;
            rows.iter().map(|row| present(row.name(0)?)).collect::<Result<Vec<_>, _>>()?
        };
        self.visit_all(databases, |database| visit(config, deadlines, database)).await;
        let found: Vec<_> = self.groups().into_iter().map(extension).collect();
        metrics.set_installed_extensions(&found);
        tracing::info!("[NEON_EXT_STAT] {}", line(&found));
        Ok(())
    }

    /// Visits these databases, and forgets all others.
    async fn visit_all<V>(&mut self, mut databases: Vec<String>, visit: impl Fn(String) -> V)
    where
        V: Future<Output = Result<Vec<Key>, SessionError>>,
    {
        if databases.len() > MAX_LISTED {
            tracing::info!("{MAX_LISTED} of {} databases are looked at", databases.len());
            databases.truncate(MAX_LISTED);
        }
        let visits = databases.into_iter().map(|database| {
            let visit = visit(database.clone());
            async { (database, visit.await) }
        });
        let mut visits = stream::iter(visits).buffer_unordered(AT_ONCE);
        let mut before = std::mem::take(&mut self.0);
        while let Some((database, found)) = visits.next().await {
            let found = match found {
                Ok(found) => Some(found),
                Err(error) if is_gone(&error) => {
                    let name = shown(&database);
                    tracing::debug!("no extension statistics from database {name:?}: {error}");
                    None
                }
                Err(error) => {
                    let name = shown(&database);
                    tracing::warn!("no new extension statistics from database {name:?}: {error}");
                    before.remove(&database)
                }
            };
            self.0.extend(found.map(|found| (database, found)));
        }
    }

    /// In how many databases each extension is.
    fn groups(&self) -> BTreeMap<Key, u32> {
        let mut groups = BTreeMap::<_, u32>::new();
        for key in self.0.values().flatten() {
            let databases = groups.entry(key.clone()).or_default();
            *databases = databases.saturating_add(1);
        }
        groups
    }
}

async fn visit(
    config: &SessionConfig,
    deadlines: SessionDeadlines,
    database: String,
) -> Result<Vec<Key>, SessionError> {
    let mut config = config.clone();
    let session = Session::connect(config.dbname(&database), deadlines).await?;
    let rows = session.query(EXTENSIONS).await?;
    rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)? == "t"))).collect()
}

fn column(row: &Row, at: usize) -> Result<String, SessionError> {
    present(row.try_get(at)?)
}

fn present(text: Option<&str>) -> Result<String, SessionError> {
    text.map(str::to_owned).ok_or_else(|| SessionError::Answer("a column is NULL".to_owned()))
}

/// Whether the database was dropped, made inaccessible, or invalid since the list was read.
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

fn extension(((name, version, owned_by_superuser), databases): (Key, u32)) -> InstalledExtension {
    InstalledExtension { name, version, owned_by_superuser, databases }
}

/// The line that log pipelines parse.
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
    // Texts and numbers can always be serialized.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::PgError;
    use std::cell::Cell;

    fn key(name: &str, version: &str, owned: bool) -> Key {
        (name.to_owned(), version.to_owned(), owned)
    }

    fn plpgsql() -> Vec<Key> {
        vec![key("plpgsql", "1.0", true)]
    }

    fn refused(sqlstate: SqlState) -> SessionError {
        let text = "refused".to_owned();
        SessionError::Connect(PgError { sqlstate: Some(sqlstate), text, position: None, at: None })
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("d{number}")).collect()
    }

    #[test]
    fn the_line_of_the_document() {
        let mut found = InstalledExtensions::default();
        for database in numbered(4) {
            found.0.insert(database, plpgsql());
        }
        let hstore = [false, true].map(|owned| key("hstore", "1.8", owned));
        found.0.get_mut("d2").unwrap().extend(hstore);
        let found: Vec<_> = found.groups().into_iter().map(extension).collect();
        let expected = concat!(
            r#"{"extensions":[{"extname":"hstore","version":"1.8","n_databases":1,"owned_by_superuser":"0"},"#,
            r#"{"extname":"hstore","version":"1.8","n_databases":1,"owned_by_superuser":"1"},"#,
            r#"{"extname":"plpgsql","version":"1.0","n_databases":4,"owned_by_superuser":"1"}]}"#
        );
        assert_eq!(line(&found), expected);
    }

    #[tokio::test]
    async fn a_failed_visit_leaves_the_numbers_of_the_last_one() {
        let mut found = InstalledExtensions::default();
        let mut collect = async |databases: &[&str], failing: &str, error: SessionError| {
            let databases = databases.iter().map(ToString::to_string).collect();
            let visit = |database: String| {
                let found = if database == failing { Err(error.clone()) } else { Ok(plpgsql()) };
                std::future::ready(found)
            };
            found.visit_all(databases, visit).await;
            found.groups().values().copied().next()
        };
        let too_many = || refused(SqlState::TOO_MANY_CONNECTIONS);
        let late = || SessionError::StatementDeadline(std::time::Duration::ZERO);
        assert_eq!(collect(&["a", "b"], "b", too_many()).await, Some(1), "never seen");
        assert_eq!(collect(&["a", "b"], "", late()).await, Some(2));
        assert_eq!(collect(&["a", "b"], "b", too_many()).await, Some(2));
        assert_eq!(collect(&["a", "b"], "b", late()).await, Some(2), "for as long as it fails");
        // Missing from the list, then in it again, then dropped after the list was read.
        assert_eq!(collect(&["a"], "", late()).await, Some(1));
        assert_eq!(collect(&["a", "b"], "b", late()).await, Some(1), "it may be another one");
        assert_eq!(collect(&["a", "b"], "", late()).await, Some(2));
        let gone = || refused(SqlState::UNDEFINED_DATABASE);
        assert_eq!(collect(&["a", "b"], "b", gone()).await, Some(1));
        assert_eq!(collect(&["a", "b"], "b", late()).await, Some(1));
        assert_eq!(collect(&[], "", late()).await, None);
    }

    #[tokio::test]
    async fn a_few_at_a_time_and_not_without_end() {
        let (now, most, all) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let visit = |_| async {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            all.set(all.get() + 1);
            // Lets other visits run.
            tokio::task::yield_now().await;
            now.set(now.get() - 1);
            Ok(plpgsql())
        };
        let mut found = InstalledExtensions::default();
        found.visit_all(numbered(MAX_LISTED + 7), visit).await;
        assert_eq!((now.get(), most.get(), all.get()), (0, AT_ONCE, MAX_LISTED));
        assert_eq!(found.groups().into_values().collect::<Vec<_>>(), [500]);
        assert_eq!(AT_ONCE, 4);
    }
}
