//! The steps after Postgres is ready that need SQL (01 §11, §12). The size limit is lifted while
//! the catalog is changed, and restored afterwards on every path.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::background;
use crate::catalog::plan::{PlanError, Wanted, check_document};
use crate::catalog::pool::Sessions;
use crate::catalog::{apply, concurrency};
use crate::duration::millis;
use crate::errors::one_line;
use crate::node::ComputeNode;
use crate::node::phase::StartPhase;
use crate::postgres::files::{self, TempOverride};
use crate::spec::ParsedSpec;
use crate::sql::APPLY_CONFIG;
use crate::telemetry::traces::{self, Span};

/// The occasion on which roles and databases are applied (05 §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApplyContext {
    /// Postgres was just started, and its users wait.
    Start,
    /// Users may be connected.
    Reconfiguration {
        /// Look into every database.
        look_everywhere: bool,
    },
}

/// What a reconfiguration does to roles and databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatalogWork {
    /// Nothing: the spec differs from the one in force in tokens only.
    Nothing,
    /// An apply, unless the spec says to skip it.
    Apply,
    /// The same, with a look into every database.
    ApplyAndLook,
}

impl CatalogWork {
    /// Finds what no cluster takes, before anything is touched.
    ///
    /// # Errors
    /// The first fault.
    pub(crate) fn check(self, spec: &ParsedSpec) -> Result<(), PlanError> {
        if self.is_due(spec) && spec.applies_catalog() {
            check_document(&spec.spec)
        } else {
            Ok(())
        }
    }

    /// Whether roles and databases are applied for this spec.
    pub(crate) const fn is_due(self, spec: &ParsedSpec) -> bool {
        !matches!(self, Self::Nothing) && !spec.spec.skip_pg_catalog_updates
    }
}

/// Applies roles and databases after the start of a primary.
pub(crate) async fn apply_after_start(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    reload: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if !spec.spec.skip_pg_catalog_updates {
        let applied = async {
            apply_in_turn(node, spec, ApplyContext::Start, &reload).await?;
            files::enable_subscribers(&node.params.pgdata)?;
            reload()
        };
        node.during(StartPhase::ApplyCatalog, applied).await?;
    }
    background::begin(node, !spec.spec.skip_pg_catalog_updates);
    Ok(())
}

/// Takes the turn, lifts the size limit and makes roles and databases match the spec. The caller
/// reloads afterwards, which removes the override. For a compute that is not a primary the limit is
/// only lifted and restored.
pub(crate) async fn apply_in_turn(
    node: &ComputeNode,
    spec: &ParsedSpec,
    context: ApplyContext,
    reload: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let _turn = node.catalog_turns.enter(node.params.timeouts.apply.turn).await?;
    let lifted = TempOverride::begin(&node.params.pgdata, &spec.spec)?;
    reload()?;
    let span = traces::span("apply");
    let applied = async {
        if spec.is_primary() { apply_catalog(node, spec, context, &span).await } else { Ok(()) }
    };
    let applied = span.scope(applied).await;
    if let Err(error) = &applied {
        span.fail(one_line(error.as_ref()));
    }
    drop(span);
    let ended = lifted.map_or(Ok(()), |lifted| Ok(lifted.end()?));
    let reloaded = if applied.is_err() { reload() } else { Ok(()) };
    // The first error is returned.
    applied.and(ended).and(reloaded)
}

async fn apply_catalog(
    node: &ComputeNode,
    spec: &ParsedSpec,
    context: ApplyContext,
    span: &Span,
) -> anyhow::Result<()> {
    let (params, timeouts) = (&node.params, &node.params.timeouts);
    let in_lakebase_mode = params.lakebase.is_some();
    let mut config = params.session(APPLY_CONFIG)?;
    if in_lakebase_mode && context == ApplyContext::Start {
        config.limit_statements();
    }
    let sessions =
        Sessions::new(config, timeouts.sql, timeouts.apply, spec.spec.cluster.databases.len());
    let timeline = spec.timeline_id.to_string();
    let privileged_role = &node.params.privileged_role_name;
    let look_everywhere = context == ApplyContext::Reconfiguration { look_everywhere: true };
    let wanted = Wanted { spec: &spec.spec, timeline: &timeline, privileged_role, look_everywhere };
    let limit = match context {
        ApplyContext::Start => concurrency::at_start(&spec.spec),
        ApplyContext::Reconfiguration { .. } => concurrency::at_reconfiguration(&spec.spec),
    };
    let began = Instant::now();
    let (report, result) = apply::apply(&sessions, &wanted, limit, in_lakebase_mode).await;
    if in_lakebase_mode {
        node.metrics.configure_statement_timeouts.inc_by(report.timed_out);
    }
    let counts = report.counts;
    span.number("compute.statements", counts.done);
    span.number("compute.objects_unchanged", counts.unchanged);
    node.set_apply_report(report);
    node.unseen.replace(result.context("failed to apply roles and databases")?);
    tracing::info!(
        "roles and databases are as the spec says, {} statements, {} objects as they were, {} ms",
        counts.done,
        counts.unchanged,
        millis(began.elapsed())
    );
    Ok(())
}
