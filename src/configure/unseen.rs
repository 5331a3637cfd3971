//! Looks into the databases that applies have judged from outside (05 §7.9b), beside everything
//! else: no start and no `/configure` waits for it.

use std::sync::Arc;

use crate::catalog::pool::Sessions;
use crate::catalog::recheck::{self, CATALOG_CHECK};
use crate::node::ComputeNode;
use crate::node::unseen::ToSee;
use crate::sql::{APPLY_CONFIG, SessionError};

/// Databases looked into at the same time: users come first.
const WORKERS: usize = 2;

/// Begins with what the last apply has left unseen.
pub(crate) fn begin(node: &Arc<ComputeNode>) {
    for _ in 0..node.unseen.hire(WORKERS) {
        let of = Arc::clone(node);
        node.background.spawn(async move { work(&of).await });
    }
}

async fn work(node: &ComputeNode) {
    while let Some(to_see) = node.unseen.next() {
        let database = &to_see.spared.database;
        match see(node, &to_see).await {
            Ok(()) => {}
            Err(error) => {
                // It waits for the next apply.
                tracing::warn!(
                    "could not check the schema public of database {database:?}: {error:#}"
                );
                if error.downcast_ref().is_some_and(SessionError::is_full) {
                    node.unseen.give_up();
                }
            }
        }
    }
}

/// Looks without a turn, and takes one only where something is missing. Every wait has a deadline.
async fn see(node: &ComputeNode, to_see: &ToSee) -> anyhow::Result<()> {
    let (params, timeouts) = (&node.params, &node.params.timeouts);
    let ToSee { spared, permissions, .. } = to_see;
    let config = params.session(CATALOG_CHECK)?;
    let missing = recheck::missing(&config, timeouts.sql, spared, permissions).await?;
    if !missing.is_empty() {
        let databases = node.spec().map_or(0, |spec| spec.spec.cluster.databases.len());
        let _turn = node.catalog_turns.enter(timeouts.apply.total(databases)).await?;
        if !node.unseen.is_current(to_see) {
            return Ok(());
        }
        let config = params.session(APPLY_CONFIG)?;
        let sessions = Sessions::new(config, timeouts.sql, timeouts.apply, 1);
        let session = sessions.open(Some(&spared.database)).await?;
        for operation in recheck::repair(session.session(), spared, permissions).await? {
            tracing::info!("in database {:?}: {operation}, {}", spared.database, operation.reason);
        }
    }
    node.unseen.see(to_see);
    Ok(())
}
