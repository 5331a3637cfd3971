//! Tasks that run beside the driver while Postgres runs, and end before Postgres does.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Usual limit of [`Background::end`].
pub(crate) const END_LIMIT: Duration = Duration::from_secs(1);

/// Tasks of one compute. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Background {
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    /// Runs `work` until it is done or [`Background::end`] is called; after that no new work
    /// begins.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            // Dropping the work closes its sessions, and the server ends their statements.
            let _ = ended.run_until_cancelled(work).await;
        });
    }

    /// Registers something that the end of a task does not stop, such as a thread that writes
    /// files: [`Background::end`] also waits until the token is dropped.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Whether [`Background::end`] was called, so that no new work begins.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Ends all tasks at their next await, and waits for those that are computing, at most `limit`.
    pub async fn end(&self, limit: Duration) {
        self.ended.cancel();
        self.tasks.close();
        if timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("work in the background did not end within {limit:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn the_end_stops_all_tasks() {
        let background = Background::default();
        let (done, seen) = tokio::sync::oneshot::channel::<()>();
        background.spawn(async move {
            std::future::pending::<()>().await;
            let _ = done.send(());
        });
        tokio::task::yield_now().await;
        background.end(LIMIT).await;
        assert!(seen.await.is_err(), "dropped");

        let (done, seen) = tokio::sync::oneshot::channel::<()>();
        background.spawn(async move {
            let _ = done.send(());
        });
        assert!(seen.await.is_err(), "never begun");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_what_is_held() {
        let background = Background::default();
        let held = background.hold();
        assert!(!background.has_ended());
        let end = background.end(LIMIT);
        tokio::pin!(end);
        let soon = tokio::time::timeout(LIMIT / 2, &mut end).await;
        assert!(soon.is_err() && background.has_ended());
        drop(held);
        let began = tokio::time::Instant::now();
        end.await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
