//! Distinguishes our own sessions from users' sessions in the statistics of Postgres.
//!
//! The statistics of a database count sessions without their owners. The activity monitor may read
//! them (07 §1.2 step 1), and must not take a session of ours for one of a user. Invariant: code
//! that opens a session in a users' database holds a [`Footprint`] from before the connect until
//! after the end.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Databases whose statistics the activity monitor does not read.
const OURS: [&str; 3] = ["postgres", "template0", "template1"];

/// One value for the whole process, because the server also counts the sessions of the whole
/// process.
static VISITS: Mutex<Visits> = Mutex::new(Visits { open: 0, last: None });

#[derive(Debug)]
struct Visits {
    open: usize,
    /// When the last visit ended.
    last: Option<Instant>,
}

impl Visits {
    fn within(&self, limit: Duration) -> bool {
        self.open > 0 || self.last.is_some_and(|last| last.elapsed() < limit)
    }
}

fn visits() -> MutexGuard<'static, Visits> {
    VISITS.lock()
}

/// A session of ours in a users' database, until it is dropped.
#[derive(Debug)]
pub(super) struct Footprint(());

impl Footprint {
    /// `None` for a database that does not belong to users.
    pub(super) fn begin(database: &str) -> Option<Self> {
        if OURS.contains(&database) {
            return None;
        }
        let mut visits = visits();
        visits.open = visits.open.saturating_add(1);
        Some(Self(()))
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        let mut visits = visits();
        visits.open = visits.open.saturating_sub(1);
        visits.last = Some(Instant::now());
    }
}

/// Whether a visit is open, or ended within so much time.
pub fn visited_within(limit: Duration) -> bool {
    visits().within(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_lasts_until_its_time_is_over() {
        assert!(Footprint::begin("postgres").is_none());
        let visit = Footprint::begin("shop");
        assert!(visited_within(Duration::ZERO), "now");
        let before = Instant::now();
        drop(visit);
        assert!(visits().last.is_some_and(|last| last >= before), "its end is noted");
        assert!(visited_within(Duration::from_secs(3600)), "a moment ago");
        let over = Visits { open: 0, last: Some(Instant::now()) };
        assert!(over.within(Duration::from_secs(3600)) && !over.within(Duration::ZERO));
        assert!(!Visits { open: 0, last: None }.within(Duration::MAX));
    }
}
