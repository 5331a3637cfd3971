//! The memory of a compute that only watches or waits.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::node::ComputeNode;
use crate::os::{code_memory, heap_memory};
use crate::state::ComputeStatus;

/// How long the compute must have been `running`: work that follows needs the same code.
const QUIET: Duration = Duration::from_secs(10);

/// Between two looks at the heap: the allocator does not tell when it holds free memory.
const LOOK_AT_HEAP: Duration = Duration::from_secs(15);
/// More memory than a compute without work has, in bytes. What is in use counts too, so there may be
/// nothing to give back; finding that out takes less than a millisecond.
const MUCH: u64 = 8 << 20;

/// Gives back the memory that the allocator holds free after much work, until dropped.
pub(super) async fn give_back_free_memory() -> Infallible {
    let mut looks = interval(LOOK_AT_HEAP);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(before) = heap_memory::anonymous().filter(|bytes| *bytes > MUCH) else { continue };
        // Not on a worker: it may take milliseconds.
        if tokio::task::spawn_blocking(heap_memory::give_back).await.is_ok() {
            let after = heap_memory::anonymous().unwrap_or(before);
            tracing::debug!(
                "freed {} KiB of {} KiB",
                before.saturating_sub(after) / 1024,
                before / 1024
            );
        }
    }
}

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
