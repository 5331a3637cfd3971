//! Whether clients can be sent here, for `/ready` and `/startup`.
//!
//! Readiness follows Postgres, not the status: during a reconfiguration, and after one that failed,
//! Postgres serves. It begins when the first start is over, then follows the checks of the monitor
//! ([`crate::services::monitor`]), and is over for good as soon as the end begins. A probe reads
//! what is known and asks nothing, so it costs nothing, however many clients ask. Each change is
//! one line in the log, however often anyone asks.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Longest age of the monitor's last result. A check that hangs ends much earlier, as a failure;
/// this is for a monitor that does not run any more.
pub(crate) const LONGEST_UNCHECKED: Duration = Duration::from_secs(30);

/// Why no clients can be sent here. The texts go to clients without a token, so they hold nothing
/// but the kind of the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// There is no spec yet.
    Empty,
    /// The first start is under way.
    Starting,
    /// The first start has failed.
    StartFailed,
    /// The monitor got no connection.
    NoConnection,
    /// The monitor got a connection, but no answer.
    NoAnswer,
    /// The process of Postgres is stopped, so it takes no new sessions.
    Stopped,
    /// The monitor does not run any more.
    Unchecked,
    /// Postgres ended by itself.
    PostgresEnded,
    /// A request or a signal ends the compute.
    Ending,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the compute has no spec yet and waits for /configure",
            Self::Starting => "the compute is starting",
            Self::StartFailed => "the start has failed; /status and the log say why",
            Self::NoConnection => "Postgres accepts no connection; the log says why",
            Self::NoAnswer => "Postgres does not answer; the log says why",
            Self::Stopped => "the process of Postgres is stopped; the log says which",
            Self::Unchecked => "Postgres has not been checked lately",
            Self::PostgresEnded => "Postgres has ended",
            Self::Ending => "the compute is ending",
        })
    }
}

/// What is known about the readiness of the compute.
#[derive(Debug)]
pub struct Readiness(Mutex<Known>);

#[derive(Debug)]
struct Known {
    now: Result<(), Unready>,
    /// The first start has succeeded.
    started: bool,
    /// The end has begun: nothing changes any more.
    over: bool,
    /// When Postgres last answered.
    answered: Instant,
}

impl Known {
    /// `cause`: what the log says beside the reason.
    fn change(&mut self, to: Result<(), Unready>, cause: Option<&dyn fmt::Display>) {
        let was_ready = self.now.is_ok();
        self.now = to;
        match (to, cause) {
            (Ok(()), _) if !was_ready => tracing::info!("ready: Postgres serves"),
            (Err(reason), Some(cause)) if was_ready => {
                tracing::warn!("not ready: {reason}: {cause}");
            }
            (Err(reason), None) if was_ready => tracing::info!("not ready: {reason}"),
            _ => {}
        }
    }
}

impl Readiness {
    pub(super) fn new(has_spec: bool) -> Self {
        let reason = if has_spec { Unready::Starting } else { Unready::Empty };
        let now = Instant::now();
        Self(Mutex::new(Known { now: Err(reason), started: false, over: false, answered: now }))
    }

    /// The first start begins.
    pub(super) fn starts(&self) {
        let mut known = self.0.lock();
        if !known.over && !known.started {
            known.now = Err(Unready::Starting);
        }
    }

    /// The first start is over.
    pub(super) fn has_started(&self) {
        let mut known = self.0.lock();
        known.started = true;
        known.answered = Instant::now();
        if !known.over {
            known.change(Ok(()), None);
        }
    }

    /// The monitor's check has succeeded.
    pub(crate) fn answers(&self) {
        let mut known = self.0.lock();
        known.answered = Instant::now();
        if known.started && !known.over {
            known.change(Ok(()), None);
        }
    }

    /// The monitor's check has failed because of `cause`.
    pub(crate) fn does_not_answer(&self, reason: Unready, cause: &dyn fmt::Display) {
        let mut known = self.0.lock();
        if known.started && !known.over {
            known.change(Err(reason), Some(cause));
        }
    }

    /// The end begins. The first reason stays.
    pub(crate) fn ends(&self, reason: Unready) {
        let mut known = self.0.lock();
        if !known.over {
            known.over = true;
            known.change(Err(reason), None);
        }
    }

    /// Whether clients can be sent here.
    ///
    /// # Errors
    /// The reason why not.
    pub fn ready(&self) -> Result<(), Unready> {
        self.ready_within(LONGEST_UNCHECKED)
    }

    fn ready_within(&self, longest: Duration) -> Result<(), Unready> {
        let mut known = self.0.lock();
        if known.now.is_ok() && known.answered.elapsed() > longest {
            let limit = format!("the last answer is older than {longest:?}");
            known.change(Err(Unready::Unchecked), Some(&limit));
        }
        known.now
    }

    /// Whether the first start has succeeded, whatever has happened since.
    ///
    /// # Errors
    /// The reason why not.
    pub fn started(&self) -> Result<(), Unready> {
        let known = self.0.lock();
        if known.started { Ok(()) } else { known.now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_postgres_until_the_end() {
        let readiness = Readiness::new(false);
        let is = |ready, started| {
            assert_eq!(readiness.ready(), ready);
            assert_eq!(readiness.started(), started);
        };
        is(Err(Unready::Empty), Err(Unready::Empty));
        readiness.starts();
        is(Err(Unready::Starting), Err(Unready::Starting));
        // The monitor runs only later; what it says earlier counts for nothing.
        readiness.answers();
        is(Err(Unready::Starting), Err(Unready::Starting));
        readiness.has_started();
        is(Ok(()), Ok(()));
        readiness.does_not_answer(Unready::NoAnswer, &"late");
        is(Err(Unready::NoAnswer), Ok(()));
        readiness.does_not_answer(Unready::NoConnection, &"refused");
        is(Err(Unready::NoConnection), Ok(()));
        readiness.answers();
        is(Ok(()), Ok(()));
        readiness.ends(Unready::PostgresEnded);
        is(Err(Unready::PostgresEnded), Ok(()));
        readiness.ends(Unready::Ending);
        readiness.answers();
        readiness.has_started();
        is(Err(Unready::PostgresEnded), Ok(()));
    }

    #[test]
    fn a_start_that_fails_has_not_started() {
        let readiness = Readiness::new(true);
        assert_eq!(readiness.started(), Err(Unready::Starting));
        readiness.ends(Unready::StartFailed);
        assert_eq!(readiness.ready(), Err(Unready::StartFailed));
        assert_eq!(readiness.started(), Err(Unready::StartFailed));
    }

    #[test]
    fn an_old_answer_does_not_count() {
        let readiness = Readiness::new(true);
        readiness.has_started();
        while readiness.ready_within(Duration::ZERO).is_ok() {}
        assert_eq!(readiness.ready(), Err(Unready::Unchecked), "until the next answer");
        readiness.answers();
        assert_eq!(readiness.ready(), Ok(()));
    }
}
