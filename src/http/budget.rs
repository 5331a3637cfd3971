//! Limits on what all requests of one server use together: bytes for bodies, places for long polls
//! and for requests to the communicator.
//!
//! Rule: the server takes bytes from a budget as they arrive, before it stores them, and not when a
//! client announces them. Limits per request are not enough, because there are as many requests as
//! connections. Beyond a budget the answer is 503, at once, and other requests go on.

use std::io;
use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Bytes that the bodies of one server may take. Clones are the same budget.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    left: Arc<Semaphore>,
    in_all: usize,
}

/// Bytes taken from a budget. They are given back when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(Option<OwnedSemaphorePermit>);

impl Bytes {
    pub(super) fn new(bytes: usize) -> Self {
        let in_all = bytes.min(Semaphore::MAX_PERMITS);
        Self { left: Arc::new(Semaphore::new(in_all)), in_all }
    }

    /// Size of the whole budget.
    pub(super) const fn in_all(&self) -> usize {
        self.in_all
    }

    /// Adds `bytes` to `held`; false if the budget has too few left.
    pub(super) fn take(&self, bytes: usize, held: &mut Held) -> bool {
        let Ok(count) = u32::try_from(bytes) else { return false };
        let Ok(more) = Arc::clone(&self.left).try_acquire_many_owned(count) else { return false };
        match &mut held.0 {
            Some(held) => held.merge(more),
            None => held.0 = Some(more),
        }
        true
    }
}

/// Places for requests that wait for a status: half of the connections, so that one client with a
/// token cannot keep all others out.
#[derive(Debug, Clone)]
pub(super) struct LongPolls {
    left: Arc<Semaphore>,
    in_all: usize,
}

impl LongPolls {
    pub(super) fn of(connections: usize) -> Self {
        let in_all = (connections / 2).clamp(1, Semaphore::MAX_PERMITS);
        Self { left: Arc::new(Semaphore::new(in_all)), in_all }
    }

    /// A place, until it is dropped.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.left).try_acquire_owned().map_err(|_| {
            let text = format!(
                "{} requests wait for a status already, and no more may; ask without `wait`, or \
                 again later",
                self.in_all
            );
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })
    }
}

/// Largest number of requests that wait for the communicator in Postgres. They carry no token, and
/// while the communicator hangs, each of them keeps a connection of the server busy.
const COMMUNICATOR_AT_A_TIME: usize = 16;

/// Places for requests to the communicator.
#[derive(Debug, Clone)]
pub(super) struct CommunicatorPlaces(Arc<Semaphore>);

impl Default for CommunicatorPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(COMMUNICATOR_AT_A_TIME)))
    }
}

impl CommunicatorPlaces {
    /// A place, until it is dropped.
    pub(super) fn take(&self) -> io::Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let text = format!("{COMMUNICATOR_AT_A_TIME} requests are waiting for it already");
            io::Error::new(io::ErrorKind::WouldBlock, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let budget = Bytes::new(10);
        let (mut first, mut second) = Default::default();
        assert!(budget.take(4, &mut first) && budget.take(3, &mut first));
        assert!(!budget.take(4, &mut second));
        assert!(budget.take(3, &mut second) && budget.take(0, &mut second));
        assert!(!budget.take(usize::MAX, &mut second));
        drop(first);
        assert!(budget.take(7, &mut second));
        drop(second);
        assert_eq!(budget.left.available_permits(), budget.in_all());
    }

    #[test]
    fn long_polls_leave_half_of_the_connections() {
        for (connections, places) in [(0, 1), (1, 1), (3, 1), (1024, 512)] {
            let polls = LongPolls::of(connections);
            let taken: Vec<_> = (0..places).map(|_| polls.take().unwrap()).collect();
            let (code, text) = polls.take().unwrap_err().parts();
            assert_eq!(code, 503);
            assert!(text.starts_with(&format!("{places} requests wait")), "{text}");
            drop(taken);
            assert!(polls.take().is_ok());
        }
    }

    #[test]
    fn the_communicator_has_so_many_places_and_no_more() {
        let places = CommunicatorPlaces::default();
        let mut taken: Vec<_> =
            (0..COMMUNICATOR_AT_A_TIME).map(|_| places.take().unwrap()).collect();
        assert_eq!(places.take().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        taken.pop();
        assert!(places.take().is_ok());
    }
}
