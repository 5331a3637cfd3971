//! Changes to the catalogs that must not delay the start (05 §13, §14.1): migrations, then the
//! upgrade of the `neon` extension. They run step by step, so that an apply waits for one step at
//! most. Failures are reported and leave the compute running.

use std::sync::Arc;

use crate::catalog::migrations::{MigrationError, Migrations};
use crate::catalog::neon_extension::{self, Upgrade};
use crate::node::ComputeNode;
use crate::node::catalog_turn::{CatalogTurn, TurnTimedOut};
use crate::sql::{MIGRATIONS, POST_APPLY_CONFIG, SessionDeadlines};
use crate::telemetry::traces;

/// Begins the work on a primary that has just started; migrations only if roles and databases were
/// applied.
pub(crate) fn begin(node: &Arc<ComputeNode>, migrations: bool) {
    let work_of = Arc::clone(node);
    node.background.spawn(traces::here().scope(async move {
        if migrations && let Err(error) = migrate(&work_of).await {
            tracing::error!("{error:#}");
        }
        if let Err(error) = upgrade_neon(&work_of).await {
            tracing::error!("error while post_apply_config: {error:#}");
        }
    }));
}

async fn migrate(node: &ComputeNode) -> anyhow::Result<()> {
    let mut config = node.params.session(MIGRATIONS)?;
    if node.params.lakebase.is_some() {
        config.limit_statements();
    }
    let mut migrations = {
        let _turn = turn(node).await?;
        Migrations::begin(&config, deadlines(node)).await?
    };
    while !migrations.at_end() {
        let _turn = turn(node).await?;
        let step = migrations.step(&node.params.privileged_role_name).await;
        if let Err(MigrationError::Failed { id, .. }) = &step {
            node.metrics.count_failed_migration(&id.to_string());
        }
        step?;
    }
    Ok(())
}

async fn upgrade_neon(node: &ComputeNode) -> anyhow::Result<()> {
    let config = node.params.session(POST_APPLY_CONFIG)?;
    let _turn = turn(node).await?;
    match neon_extension::upgrade_neon_extension(&config, deadlines(node)).await? {
        Upgrade::Done => tracing::info!("the neon extension is up to date"),
        Upgrade::NotInstalled => {
            tracing::info!("the extension neon is not installed, so there is nothing to upgrade");
        }
    }
    Ok(())
}

/// Waits for the turn. Nothing waits for this work, so an apply that came first may take all the
/// time it has. That apply is of the spec in force, which is published before it is applied.
async fn turn(node: &ComputeNode) -> Result<CatalogTurn<'_>, TurnTimedOut> {
    let databases = node.spec().map_or(0, |spec| spec.spec.cluster.databases.len());
    node.catalog_turns.enter(node.params.timeouts.apply.total(databases)).await
}

fn deadlines(node: &ComputeNode) -> SessionDeadlines {
    node.params.timeouts.sql
}
