//! `--plan`: shows what an apply of the spec would do to a running Postgres, without doing it.
//!
//! The snapshot and the inspection of each database are those of a real apply, in sessions that are
//! hardened like those of an apply on this server and cannot write. Statements are not shown,
//! because they may hold password verifiers. A database that does not exist yet is planned as if
//! `template1` were as `initdb` made it: a session in the template would keep other sessions from
//! creating databases. The additions of Lakebase mode are not planned.

use anyhow::Context;
use tokio_postgres::error::SqlState;

use super::report::Report;
use crate::catalog::inspect::look;
use crate::catalog::operation::Operation;
use crate::catalog::plan::{Chain, ClusterPlan, DatabaseState, Look, Permissions, Wanted};
use crate::catalog::plan::{plan_cluster, plan_database};
use crate::catalog::snapshot;
use crate::postgres::install::PgVersion;
use crate::spec::ParsedSpec;
use crate::sql::{Session, SessionConfig, SessionDeadlines, SessionError, session_config};
use crate::timeouts::Timeouts;

const NAME: &str = "compute_ctl:check";

/// Opens read-only sessions.
struct Looker {
    config: SessionConfig,
    deadlines: SessionDeadlines,
}

impl Looker {
    /// Finds out for which version sessions must be hardened, and opens the first one. The version
    /// is not known before the first session, and a session hardened for too old a version may fail
    /// before it can ask. So the newest is tried first: an older server refuses a session that
    /// names a setting it does not have.
    async fn connect(
        connstr: &str,
        deadlines: SessionDeadlines,
    ) -> Result<(Self, Session), SessionError> {
        let hardened_for = |version| {
            let mut config = session_config(connstr, NAME, version)?;
            config.read_only();
            Ok::<_, SessionError>(Self { config, deadlines })
        };
        for version in [PgVersion::V17, PgVersion::V16, PgVersion::V15] {
            let looker = hardened_for(version)?;
            match looker.open(None).await {
                Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_OBJECT) => {}
                session => return session.map(|session| (looker, session)),
            }
        }
        let looker = hardened_for(PgVersion::V14)?;
        let session = looker.open(None).await?;
        Ok((looker, session))
    }

    async fn open(&self, database: Option<&str>) -> Result<Session, SessionError> {
        let mut config = self.config.clone();
        if let Some(database) = database {
            config.dbname(database);
        }
        Session::connect(&config, self.deadlines).await
    }

    /// The content of a database; that of a new one if the database does not exist yet.
    async fn inside(
        &self,
        look_for: &Look,
        permissions: &Permissions,
    ) -> Result<DatabaseState, SessionError> {
        let Some(name) = &look_for.before else { return Ok(DatabaseState::fresh(permissions)) };
        match self.open(Some(name)).await {
            Ok(session) => look(&session, permissions).await,
            Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_DATABASE) => {
                Ok(DatabaseState::fresh(permissions))
            }
            Err(error) => Err(error),
        }
    }
}

/// Adds the plan to the report: a line per operation, in stages of operations that run at the same
/// time.
pub(super) async fn plan(
    spec: &ParsedSpec,
    privileged_role: &str,
    connstr: &str,
    timeouts: &Timeouts,
    report: &mut Report,
) -> anyhow::Result<()> {
    if !spec.is_primary() || spec.spec.skip_pg_catalog_updates {
        report.line("plan: nothing, no roles and databases are applied for this spec");
        return Ok(());
    }
    let deadlines = SessionDeadlines { statement: timeouts.postgres.helper, ..timeouts.sql };
    let (looker, session) = Looker::connect(connstr, deadlines).await?;
    let timeline = spec.timeline_id.to_string();
    let wanted =
        Wanted { spec: &spec.spec, timeline: &timeline, privileged_role, look_everywhere: false };
    let state = snapshot::read(&session, &wanted.questions()).await?;
    let (major, role) = (state.major(), state.session_role.clone());
    let plan = plan_cluster(&wanted, state).context("the spec cannot be applied")?;
    report.line(format_args!("plan on PostgreSQL {major}, as role {role:?}:"));
    let ClusterPlan { stages, permissions, unchanged, notes, remarks, .. } = plan;
    let (mut count, mut number) = (0_usize, 0_usize);
    for stage in &stages {
        let mut lines = Vec::new();
        for chain in stage {
            for operation in operations(chain, &permissions, &looker).await? {
                lines.push(line(&operation));
            }
        }
        if !lines.is_empty() {
            number = number.saturating_add(1);
            report.line(format_args!(" stage {number}"));
            lines.iter().for_each(|line| report.line(line));
            count = count.saturating_add(lines.len());
        }
    }
    report.line(format_args!(" {count} operations, {} objects stay as they are", unchanged.len()));
    for remark in notes.iter().chain(&remarks) {
        report.warning(remark);
    }
    Ok(())
}

async fn operations(
    chain: &Chain,
    permissions: &Permissions,
    looker: &Looker,
) -> anyhow::Result<Vec<Operation>> {
    let mut operations = chain.first.clone();
    if let Some(look_for) = &chain.look {
        let database = &chain.database;
        let state = looker.inside(look_for, permissions).await;
        let state = state.with_context(|| format!("could not look into database {database:?}"))?;
        operations.extend(plan_database(database, look_for, permissions, &state));
    }
    operations.extend(chain.then.iter().cloned());
    Ok(operations)
}

fn line(operation: &Operation) -> String {
    let Operation { phase, database, role, reason, .. } = operation;
    format!("  {phase}: {operation} ({reason}), in database {database:?} as {role}")
}
