//! Migrations of clusters that older releases made (05 §13): numbered changes, each done once per
//! timeline, in the background of the start.
//!
//! The table `neon_migration.migration_id` holds the number of the last migration that was done.
//! Each migration and its number are one transaction. A failure ends the round; the next start
//! continues from that number. Numbers are never reused or reordered; new ones are appended.

use thiserror::Error;

use super::trust::{Use, trusted_table};
use crate::failpoints;
use crate::sql::quote::{identifier, literal};
use crate::sql::{Session, SessionConfig, SessionDeadlines, SessionError};

/// Where failures are injected (05 §13.1): `return(n)` fails migration `n`.
const FAILPOINT: &str = "compute-migration";

/// The change behind one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Migration {
    /// SQL, with the privileged role as `{privileged}` and, as a literal, `{privileged_literal}`.
    Run(&'static str),
    /// The migration is obsolete: only the number advances.
    Skip,
}

/// All migrations; the first one is number 1.
const MIGRATIONS: &[Migration] = &[
    Migration::Run(include_str!("01_bypassrls.sql")),
    Migration::Run(include_str!("02_inherit.sql")),
    Migration::Run(include_str!("03_create_subscription.sql")),
    Migration::Run(include_str!("04_monitor.sql")),
    // Default privileges in `public`, which every apply now sets.
    Migration::Skip,
    Migration::Skip,
    Migration::Skip,
    Migration::Skip,
    // Took REPLICATION from all roles.
    Migration::Skip,
    Migration::Run(include_str!("10_snapshots.sql")),
    Migration::Run(include_str!("11_replication_origins.sql")),
    Migration::Run(include_str!("12_signal_backend.sql")),
];

/// Creates the table, its schema and its one row.
const PREPARE: &str = include_str!("00_prepare.sql");

/// Key of the advisory lock: the letters "migratio". There is one compute per timeline, but a
/// session of a killed predecessor may still be at work.
const LOCK: &str = "SELECT FROM pg_catalog.pg_advisory_lock(7883946363647715695)";

/// Has a row if our table exists. Selecting from a missing table would log an error on the server,
/// and selecting from a table that a tenant made would run the tenant's code.
const LOOK: &str = "SELECT true FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    JOIN pg_catalog.pg_authid co ON co.oid OPERATOR(pg_catalog.=) c.relowner AND co.rolsuper \
    JOIN pg_catalog.pg_authid no ON no.oid OPERATOR(pg_catalog.=) n.nspowner AND no.rolsuper \
    WHERE n.nspname OPERATOR(pg_catalog.=) 'neon_migration' \
        AND c.relname OPERATOR(pg_catalog.=) 'migration_id' \
        AND c.relkind OPERATOR(pg_catalog.=) 'r'";

/// Why not all migrations ran.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum MigrationError {
    /// The session could not be opened.
    #[error("Failed to connect to the compute for running migrations: {0}")]
    Connect(SessionError),
    /// The number of the last migration could not be read, or is not valid.
    #[error("could not find out which migrations were done: {0}")]
    Bookkeeping(SessionError),
    /// One migration failed and was rolled back.
    #[error("Failed to run migration id={id}: {error}")]
    Failed {
        /// Its number.
        id: usize,
        /// Why.
        error: SessionError,
    },
}

/// The migrations that are left, and the session that runs them.
#[derive(Debug)]
pub(crate) struct Migrations {
    session: Session,
    /// Number of the last migration that was done.
    done: usize,
}

impl Migrations {
    /// Connects and reads the number of the last migration.
    pub(crate) async fn begin(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
    ) -> Result<Self, MigrationError> {
        let session = Session::connect(config, deadlines).await.map_err(MigrationError::Connect)?;
        let lost = MigrationError::Bookkeeping;
        let rows = session.query(&format!("{LOCK}; {LOOK}")).await.map_err(lost)?;
        let found = rows.iter().any(|row| row.try_get(0).ok().flatten().is_some());
        let mut done = if found { read(&session).await.map_err(lost)? } else { None };
        // Whenever a migration is left, even if the table exists: an older release may have created
        // less.
        if done.is_none_or(|done| done < MIGRATIONS.len()) {
            session.query(&prepare()).await.map_err(lost)?;
            done = read(&session).await.map_err(lost)?;
        }
        let none = || lost(SessionError::Answer("no neon_migration.migration_id".to_owned()));
        let done = done.ok_or_else(none)?;
        if done > MIGRATIONS.len() {
            tracing::warn!(
                "neon_migration.migration_id says that {done} migrations were done, this program knows \
                 {}: none is run",
                MIGRATIONS.len()
            );
        }
        Ok(Self { session, done })
    }

    /// Whether all migrations are done.
    pub(crate) const fn at_end(&self) -> bool {
        self.done >= MIGRATIONS.len()
    }

    /// Runs the next migration.
    pub(crate) async fn step(&mut self, privileged_role: &str) -> Result<(), MigrationError> {
        let Some(migration) = MIGRATIONS.get(self.done) else { return Ok(()) };
        let id = self.done.saturating_add(1);
        let change = match migration {
            Migration::Run(template) => {
                let sql = fill(template, privileged_role);
                tracing::info!("Running migration id={id}\n{sql}");
                sql
            }
            Migration::Skip => {
                tracing::info!("Skipping migration id={id}");
                String::new()
            }
        };
        let fail = failpoints::hit(FAILPOINT).await.is_some_and(|arg| arg == id.to_string());
        let failed = |error| MigrationError::Failed { id, error };
        let advance = if fail { FAIL.to_owned() } else { advance(id) };
        // One message is one transaction.
        self.session.query(&format!("{change};\n{advance}")).await.map_err(failed)?;
        self.done = id;
        tracing::info!("Finished migration id={id}");
        Ok(())
    }
}

/// Number of the last migration that was done; `None` if the table has no row.
async fn read(session: &Session) -> Result<Option<usize>, SessionError> {
    let rows = session.query("SELECT id FROM neon_migration.migration_id").await?;
    let mut ids = rows.iter().filter_map(|row| row.try_get(0).ok().flatten());
    let Some(id) = ids.next() else { return Ok(None) };
    if ids.next().is_some() {
        let text = "neon_migration.migration_id has more than one row";
        return Err(SessionError::Answer(text.to_owned()));
    }
    let id = id.parse().ok();
    id.map(Some)
        .ok_or_else(|| SessionError::Answer("the number of a migration is negative".to_owned()))
}

/// Sent instead of [`advance`], so that the migration fails after its change.
const FAIL: &str = "DO $fail$ BEGIN RAISE 'failpoint'; END $fail$";

/// Stores the number of the migration; fails if another session has changed the stored one since.
fn advance(id: usize) -> String {
    let before = id.saturating_sub(1);
    format!(
        "DO $advance$ BEGIN \
         UPDATE neon_migration.migration_id SET id = {id} \
         WHERE id OPERATOR(pg_catalog.=) {before}; \
         IF NOT FOUND THEN RAISE 'migration {before} is not the last one any more'; END IF; \
         END $advance$"
    )
}

fn prepare() -> String {
    PREPARE.replace("@TRUST@", &trusted_table("neon_migration", "migration_id", Use::Write))
}

fn fill(template: &str, privileged_role: &str) -> String {
    template
        .trim_end()
        .replace("{privileged}", &identifier(privileged_role))
        .replace("{privileged_literal}", &literal(privileged_role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay() {
        let run: Vec<_> = MIGRATIONS
            .iter()
            .enumerate()
            .filter(|(_, migration)| matches!(migration, Migration::Run(_)))
            .map(|(index, _)| index + 1)
            .collect();
        assert_eq!(run, [1, 2, 3, 4, 10, 11, 12]);
        assert_eq!(MIGRATIONS.len(), 12);
    }

    #[test]
    fn the_role_is_quoted() {
        for migration in MIGRATIONS {
            let Migration::Run(template) = migration else { continue };
            let sql = fill(template, "my_role");
            assert!(sql.contains("\"my_role\"") || sql.contains("'my_role'"), "{sql}");
            assert!(!sql.contains("{privileged"), "{sql}");
            // One name for both modes, that of the command line (05 §22).
            assert!(!template.contains("_superuser"), "{template}");
        }
    }
}
