//! Distributes work to several sessions, and to fewer of them when the server runs out of
//! connections (05 §5).
//!
//! Workers take from one [`Queue`]. A worker that cannot get a connection puts its work back and
//! ends, so that fewer sessions are tried; the last worker waits and tries again. Invariant: as
//! long as there is work and no error, there is a worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::sql::{LockWatch, MaintenanceSession, SessionConfig, SessionDeadlines, SessionError};

/// How long an apply may take, besides the deadline of each statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyLimits {
    /// Limit for the whole apply, which could otherwise run for days.
    pub whole: Duration,
    /// Added for each database of the spec: creating one may take this long where its pages come
    /// from a slow pageserver.
    pub per_database: Duration,
    /// How long to wait while the server has no free connection.
    pub no_slot: Duration,
    /// Pause between two tries in that time: the server does not announce a free connection.
    pub no_slot_pause: Duration,
    /// How long to wait for the lock of the catalogs: one step of other work of ours, with its
    /// connect.
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
    /// The limit for an apply of a spec with so many databases.
    pub fn total(&self, databases: usize) -> Duration {
        let databases = u32::try_from(databases).unwrap_or(u32::MAX);
        self.whole.saturating_add(self.per_database.saturating_mul(databases))
    }
}

/// Opens the sessions of one apply.
#[derive(Debug, Clone)]
pub struct Sessions {
    config: SessionConfig,
    deadlines: SessionDeadlines,
    limits: ApplyLimits,
    /// Limit for the whole apply.
    pub(super) whole: Duration,
    /// Shared by all sessions of the apply.
    watch: Arc<LockWatch>,
}

impl Sessions {
    /// `databases` is the number of databases in the spec.
    pub fn new(
        config: SessionConfig,
        deadlines: SessionDeadlines,
        limits: ApplyLimits,
        databases: usize,
    ) -> Self {
        Self { config, deadlines, limits, whole: limits.total(databases), watch: Arc::default() }
    }

    /// Opens a session in a database; in that of the URL when none is named.
    pub async fn open(&self, database: Option<&str>) -> Result<MaintenanceSession, SessionError> {
        let mut config = self.config.clone();
        if let Some(database) = database {
            config.dbname(database);
        }
        let watch = Arc::clone(&self.watch);
        MaintenanceSession::connect_with(&config, self.deadlines, watch).await
    }

    /// Like [`Self::open`], but waits for a while when the server has too many clients.
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

/// Work that waits, and the number of workers that take from it.
#[derive(Debug)]
pub struct Queue<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    work: VecDeque<T>,
    workers: usize,
}

impl<T> Queue<T> {
    /// A queue for at most `most` workers, and not more than there are pieces of work.
    pub fn new(work: impl IntoIterator<Item = T>, most: usize) -> Self {
        let work: VecDeque<T> = work.into_iter().collect();
        let workers = work.len().min(most);
        Self(Mutex::new(Waiting { work, workers }))
    }

    /// Never hold the lock across an await. The list is consistent at any moment.
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.lock()
    }

    /// Number of workers that have not ended.
    pub fn workers(&self) -> usize {
        self.lock().workers
    }

    /// The next piece of work. On `None` the worker must end.
    pub fn take(&self) -> Option<T> {
        let mut waiting = self.lock();
        let work = waiting.work.pop_front();
        if work.is_none() {
            waiting.workers = waiting.workers.saturating_sub(1);
        }
        work
    }

    /// Puts back a piece for which the server had no connection. On `None` the worker must end;
    /// the last worker gets the piece again and must wait for a connection.
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
    fn the_last_worker_must_keep_its_piece() {
        let queue = Queue::new([1, 2], 2);
        let (one, two) = (queue.take(), queue.take());
        assert_eq!((one, two, queue.take()), (Some(1), Some(2), None), "one worker has ended");
        assert_eq!(queue.give_back(2), Some(2), "the other one must continue");
    }
}
