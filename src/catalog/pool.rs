//! Work for several sessions at a time, which becomes less when the server runs out of connections
//! (05 §5).
//!
//! Workers take from one [`Queue`]. A worker that the server refuses puts its work back and ends,
//! so that fewer sessions are tried; the last one waits and tries again. Invariant: as long as
//! there is work and no error, there is a worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::sql::{LockWatch, MaintenanceSession, SessionConfig, SessionDeadlines, SessionError};

/// How long an apply may take, besides the deadline of each statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyLimits {
    /// The apply as a whole: ends what would go on for days.
    pub whole: Duration,
    /// More time for each database of the spec: creating it may take as long where its pages come
    /// from a slow pageserver.
    pub per_database: Duration,
    /// How long the server may have no connection left for us.
    pub no_slot: Duration,
    /// Between two tries while it has none: there is no event to wait for.
    pub no_slot_pause: Duration,
    /// The turn at the catalogs: one step of other work of ours, with its connect.
    pub turn: Duration,
}

impl Default for ApplyLimits {
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(3600),
            per_database: Duration::from_secs(5),
            no_slot: Duration::from_secs(60),
            no_slot_pause: Duration::from_millis(100),
            turn: Duration::from_secs(150),
        }
    }
}

impl ApplyLimits {
    /// For an apply of a spec with so many databases.
    pub fn total(&self, databases: usize) -> Duration {
        let databases = u32::try_from(databases).unwrap_or(u32::MAX);
        self.whole.saturating_add(self.per_database.saturating_mul(databases))
    }
}

/// How sessions are opened for one apply.
#[derive(Debug, Clone)]
pub struct Sessions {
    config: SessionConfig,
    deadlines: SessionDeadlines,
    limits: ApplyLimits,
    /// For the whole apply.
    pub(super) whole: Duration,
    /// What the sessions find out together.
    watch: Arc<LockWatch>,
}

impl Sessions {
    /// Where and as whom, the deadlines of each session, and how many databases the spec has.
    pub fn new(
        config: SessionConfig,
        deadlines: SessionDeadlines,
        limits: ApplyLimits,
        databases: usize,
    ) -> Self {
        Self { config, deadlines, limits, whole: limits.total(databases), watch: Arc::default() }
    }

    /// A session in a database; in the one of the URL when none is named.
    pub async fn open(&self, database: Option<&str>) -> Result<MaintenanceSession, SessionError> {
        let mut config = self.config.clone();
        if let Some(database) = database {
            config.dbname(database);
        }
        let watch = Arc::clone(&self.watch);
        MaintenanceSession::connect_with(&config, self.deadlines, watch).await
    }

    /// The same, but waits for a while when there are too many clients.
    pub async fn open_patiently(
        &self,
        database: Option<&str>,
    ) -> Result<MaintenanceSession, SessionError> {
        let deadline = Instant::now() + self.limits.no_slot;
        loop {
            match self.open(database).await {
                Err(error) if error.is_full() && Instant::now() < deadline => {
                    tracing::info!("the server has no connection left, trying again: {error}");
                    tokio::time::sleep(self.limits.no_slot_pause).await;
                }
                other => return other,
            }
        }
    }
}

/// Work that waits, and how many take from it.
#[derive(Debug)]
pub struct Queue<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    work: VecDeque<T>,
    workers: usize,
}

impl<T> Queue<T> {
    /// Work for so many workers at most; no more than there is work.
    pub fn new(work: impl IntoIterator<Item = T>, most: usize) -> Self {
        let work: VecDeque<T> = work.into_iter().collect();
        let workers = work.len().min(most);
        Self(Mutex::new(Waiting { work, workers }))
    }

    /// Never held across an await; the list is whole at any moment.
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.lock()
    }

    /// Workers that are still at it.
    pub fn workers(&self) -> usize {
        self.lock().workers
    }

    /// The next piece of work. Without one the worker must end.
    pub fn take(&self) -> Option<T> {
        let mut waiting = self.lock();
        let work = waiting.work.pop_front();
        if work.is_none() {
            waiting.workers = waiting.workers.saturating_sub(1);
        }
        work
    }

    /// The server had no connection for this piece: it is given back, and the worker must end. Only
    /// the last one gets it again, to be patient with it.
    pub fn give_back(&self, work: T) -> Option<T> {
        let mut waiting = self.lock();
        if waiting.workers <= 1 {
            return Some(work);
        }
        waiting.workers = waiting.workers.saturating_sub(1);
        waiting.work.push_back(work);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_become_fewer_but_never_none() {
        let queue = Queue::new([1, 2, 3], 2);
        assert_eq!(queue.workers(), 2);
        let (one, two) = (queue.take().unwrap(), queue.take().unwrap());
        assert_eq!(queue.give_back(two), None);
        assert_eq!((queue.workers(), queue.give_back(one)), (1, Some(1)));
        assert_eq!([queue.take(), queue.take(), queue.take()], [Some(3), Some(2), None]);
        assert_eq!(Queue::new([1], 5).workers(), 1);
    }

    #[test]
    fn nobody_comes_for_what_the_last_worker_gives_back() {
        let queue = Queue::new([1, 2], 2);
        let (one, two) = (queue.take(), queue.take());
        assert_eq!((one, two, queue.take()), (Some(1), Some(2), None), "one worker has ended");
        assert_eq!(queue.give_back(2), Some(2), "the other one must keep at it");
    }
}
