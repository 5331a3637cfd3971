//! Background work of one kind: one job at a time, and only the newest one waits (04 W16).
//!
//! A start and a reconfiguration right after it may both tune the same daemon. In the end the
//! daemon must have the settings of the later one.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A place for one job, and the task that runs the jobs. Dropping it ends the task and the job in
/// progress.
#[derive(Debug)]
pub(crate) struct LatestJob<J> {
    place: watch::Sender<Option<Arc<J>>>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

/// Signals a job in progress that a newer one waits.
#[derive(Debug)]
pub(crate) struct Superseded<J>(watch::Receiver<Option<Arc<J>>>);

impl<J> Superseded<J> {
    /// Resolves when a newer job waits. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // The sender is gone, so no newer job can come.
            std::future::pending().await
        }
    }
}

impl<J> Default for LatestJob<J> {
    fn default() -> Self {
        Self { place: watch::Sender::new(None), task: OnceLock::new() }
    }
}

impl<J: Send + Sync + 'static> LatestJob<J> {
    /// Hands `job` to the task, which the first call starts with its `work`. Needs a runtime.
    /// Returns at once.
    pub(crate) fn put<W, F>(&self, job: J, work: W)
    where
        W: Fn(Arc<J>, Superseded<J>) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        self.task.get_or_init(|| {
            let mut place = self.place.subscribe();
            AbortOnDropHandle::new(tokio::spawn(async move {
                while place.changed().await.is_ok() {
                    let job = place.borrow_and_update().clone();
                    if let Some(job) = job {
                        work(job, Superseded(place.clone())).await;
                    }
                }
            }))
        });
        self.place.send_replace(Some(Arc::new(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use tokio::sync::{Notify, mpsc};

    #[tokio::test]
    async fn what_waits_is_replaced_by_what_is_newer() {
        let newest = LatestJob::default();
        let (begun, mut begins) = mpsc::unbounded_channel();
        let gate = Arc::new(Notify::new());
        let done = Arc::new(Mutex::new(Vec::new()));
        for job in 1..=3 {
            let (begun, gate, done) = (begun.clone(), gate.clone(), done.clone());
            newest.put(job, move |job: Arc<i32>, _| {
                let (begun, gate, done) = (begun.clone(), gate.clone(), done.clone());
                async move {
                    begun.send(*job).unwrap();
                    gate.notified().await;
                    done.lock().push(*job);
                }
            });
            if job == 1 {
                assert_eq!(begins.recv().await, Some(1));
            }
        }
        gate.notify_one();
        assert_eq!(begins.recv().await, Some(3), "2 was never begun");
        assert_eq!(*done.lock(), [1]);
    }

    #[tokio::test]
    async fn a_job_learns_that_a_newer_one_waits() {
        let newest = LatestJob::default();
        let (ended, mut ends) = mpsc::unbounded_channel();
        let work = move |job: Arc<i32>, mut superseded: Superseded<i32>| {
            let ended = ended.clone();
            async move {
                superseded.wait().await;
                ended.send(*job).unwrap();
            }
        };
        newest.put(1, work.clone());
        tokio::task::yield_now().await;
        newest.put(2, work);
        // If 2 came before the task took 1, it has replaced 1, and no job ends.
        let first = tokio::time::timeout(std::time::Duration::from_millis(200), ends.recv()).await;
        assert!(matches!(first, Ok(Some(1)) | Err(_)), "{first:?}");
    }
}
