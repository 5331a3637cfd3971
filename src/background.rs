//! Work that goes on beside the driver once Postgres runs, and ends before Postgres does.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long [`Background::end`] usually waits.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(1);

/// Tasks of one compute. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Background {
    ended: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    /// Runs something until it is done or [`Background::end`] is called, after which nothing is
    /// begun any more.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            // Dropping it closes its sessions, and the server ends their statements.
            let _ = ended.run_until_cancelled(work).await;
        });
    }

    /// Something of a task that its end cannot take along, such as a thread that writes files:
    /// [`Background::end`] waits until this is dropped, too.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Whether nothing is begun any more.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Ends all tasks where they stand. They are gone at once, except one that is computing, for
    /// which is waited.
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
    async fn the_end_takes_everything_along() {
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
    async fn what_is_held_is_waited_for() {
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
