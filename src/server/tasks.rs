//! The tasks of servers that are shut down together: acceptors, connections, and work that handlers
//! start. No task is detached, so the shutdown knows when all of them have ended.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to end after the grace of the shutdown: each task ends at its next
/// await, so only a computing one takes any time.
const ABORT: Duration = Duration::from_secs(1);

/// The tasks of some servers. Clones share the tasks. Dropping this does not stop the tasks;
/// [`ServerTasks::shutdown`] does.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerTasks {
    tracker: TaskTracker,
    /// Cancelled: no new connections and requests; those in progress are finished.
    closing: CancellationToken,
    /// Cancelled: every task ends at once.
    aborting: CancellationToken,
}

impl ServerTasks {
    /// Runs `work` to its end. The result is none if the shutdown drops `work` after its grace.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.tracker.spawn(self.aborting.clone().run_until_cancelled_owned(work))
    }

    /// Cancelled when the shutdown begins.
    pub(super) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Stops accepting, waits at most `grace` for the work in progress, then drops the rest.
    pub(crate) async fn shutdown(self, grace: Duration) {
        self.closing.cancel();
        self.tracker.close();
        if timeout(grace, self.tracker.wait()).await.is_ok() {
            return;
        }
        tracing::warn!("{} tasks of HTTP servers did not end in time", self.tracker.len());
        self.aborting.cancel();
        if timeout(ABORT, self.tracker.wait()).await.is_err() {
            tracing::error!("{} tasks of HTTP servers cannot be ended", self.tracker.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_waits_for_a_while() {
        let tasks = ServerTasks::default();
        let quick = tasks.spawn(tokio::time::sleep(Duration::from_secs(1)));
        let endless = tasks.spawn(std::future::pending::<()>());
        let began = tokio::time::Instant::now();
        tasks.shutdown(Duration::from_secs(2)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        assert_eq!(quick.await.unwrap(), Some(()));
        assert_eq!(endless.await.unwrap(), None);
    }
}
