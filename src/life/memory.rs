//! The memory of a compute that only watches.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;

use crate::node::ComputeNode;
use crate::os::code_memory;
use crate::state::ComputeStatus;

/// How long the compute must have been `running`: work that follows needs the same code.
const QUIET: Duration = Duration::from_secs(10);

/// Gives back the memory of code after each start and each reconfiguration, until dropped.
pub(super) async fn give_back_after_work(node: &ComputeNode) -> Infallible {
    let mut status = node.watch_status();
    loop {
        let now = *status.borrow_and_update();
        // Only a status that is `running` already becomes quiet by waiting.
        let changed = tokio::select! {
            changed = status.changed() => changed,
            () = sleep(QUIET), if now == ComputeStatus::Running => {
                match code_memory::give_back() {
                    Ok(bytes) => tracing::debug!("unmapped {} KiB of code", bytes / 1024),
                    Err(error) => tracing::debug!("could not unmap code: {error}"),
                }
                status.changed().await
            }
        };
        if changed.is_err() {
            // The sender lives as long as the node.
            std::future::pending::<()>().await;
        }
    }
}
