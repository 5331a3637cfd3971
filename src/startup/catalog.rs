//! The steps after Postgres is ready that need SQL (01 §11, §12), and the envelope around them:
//! the size limit is lifted while the catalog is changed, and back afterwards on every path.

use std::sync::Arc;

use anyhow::Context;

use crate::catalog::neon_extension;
use crate::catalog::roles_and_databases;
use crate::catalog::session::{self, APPLY_CONFIG, MaintenanceSession, SessionDeadlines};
use crate::node::ComputeNode;
use crate::node::phase::Phase;
use crate::postgres::files::{self, TempOverride};
use crate::spec::ParsedSpec;
use crate::startup::background;

/// After the start of a primary.
pub async fn after_start(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    reload: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if !spec.spec.skip_pg_catalog_updates {
        let _phase = node.phase(Phase::ApplyCatalog);
        apply(node, spec, &reload).await?;
        files::enable_subscribers(&node.params.pgdata)?;
        reload()?;
    }
    background::begin(node, !spec.spec.skip_pg_catalog_updates);
    Ok(())
}

/// Brings roles and databases to what the spec says. The caller reloads afterwards, which takes
/// the override out of force. Nothing but the envelope happens for a compute that is no primary.
pub async fn apply(
    node: &ComputeNode,
    spec: &ParsedSpec,
    reload: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let _turn = node.catalog.enter(node.params.timeouts.catalog_turn).await?;
    let lifted = TempOverride::begin(&node.params.pgdata, &spec.spec)?;
    reload()?;
    let applied =
        if spec.is_primary() { apply_roles_and_databases(node, spec).await } else { Ok(()) };
    if let Some(lifted) = lifted {
        lifted.end()?;
    }
    if applied.is_err() {
        reload()?;
    }
    applied
}

async fn apply_roles_and_databases(node: &ComputeNode, spec: &ParsedSpec) -> anyhow::Result<()> {
    let config = session::session_config(
        node.params.connstr.as_str(),
        APPLY_CONFIG,
        node.params.install.version,
    )?;
    let session = MaintenanceSession::connect(&config, deadlines(node)).await?;
    if !neon_extension::has_neon_extension(session.session()).await? {
        tracing::info!("this server has no `neon` extension; what needs it is skipped");
    }
    let role = &node.params.privileged_role_name;
    let statements = roles_and_databases::apply(&session, &spec.spec, role)
        .await
        .context("failed to apply roles and databases")?;
    tracing::info!("roles and databases are as the spec says, {statements} statements");
    Ok(())
}

fn deadlines(node: &ComputeNode) -> SessionDeadlines {
    SessionDeadlines::from(&node.params.timeouts)
}
