//! Waits for a compute that may not have opened its port yet, is starting, or is ending.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::calls::Client;
use super::documents::Status;
use super::error::Error;
use crate::state::ComputeStatus;

/// Pause between two requests to a compute that does not answer, or that does not support `wait`.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest wait that one request asks for; less than the compute allows.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Time that the answer to a wait may take to arrive.
const SLACK: Duration = Duration::from_millis(500);

impl Client {
    /// Waits until the compute shows a status. A compute that does not answer is also waited for: it
    /// may not have opened its port yet. One that does not support `wait` is polled.
    ///
    /// # Errors
    /// [`Error::NotInTime`], or, if the compute does not answer at the end, [`Error::NotReached`],
    /// [`Error::Deadline`] or [`Error::Lost`]; [`Error::Never`] at once if only a new request can
    /// lead to the status; [`Error::Refused`] and [`Error::Unexpected`] at once.
    pub async fn wait_for(&self, wanted: ComputeStatus, limit: Duration) -> Result<Status, Error> {
        let deadline = Instant::now() + limit;
        let mut seen: Option<Status> = None;
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now).min(LONGEST_WAIT);
            // The compute must answer before the timeout expires.
            let its_wait = left.saturating_sub(SLACK);
            match self.status_within(wanted, its_wait, now + left).await {
                Ok(shown) if shown.status() == wanted => return Ok(shown),
                Ok(shown) if never(shown.status(), wanted) => {
                    let why = shown.error().map(str::to_owned);
                    return Err(Error::Never { status: shown.status(), why });
                }
                Ok(shown) => seen = Some(shown),
                // No answer or a broken connection: the compute may be starting, stopping or busy.
                Err(error @ (Error::NotReached(_) | Error::Broken(_) | Error::Deadline)) => {
                    let gone = matches!(error, Error::NotReached(_));
                    let last = seen.as_ref().map(Status::status);
                    // The process ends soon after it has shown this status.
                    if gone
                        && wanted == ComputeStatus::Terminated
                        && last.is_some_and(ComputeStatus::is_ending)
                        && let Some(seen) = seen.take()
                    {
                        return Ok(seen.followed_by(wanted));
                    }
                    if Instant::now() >= deadline && (gone || last.is_none()) {
                        return Err(match last {
                            None => error,
                            Some(last) => Error::Lost { error: Box::new(error), last },
                        });
                    }
                }
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                let last = seen.as_ref().map(Status::status);
                return Err(Error::NotInTime { wanted, limit, last });
            }
            // Returns early at the deadline.
            let _ = timeout_at(deadline, sleep_until(Instant::now() + PAUSE)).await;
        }
    }

    /// Waits until Postgres serves; needs no token. A compute that does not answer is also waited
    /// for.
    ///
    /// # Errors
    /// [`Error::NotReady`], or, if the compute does not answer, [`Error::NotReached`] or
    /// [`Error::Deadline`]; [`Error::Refused`] at once.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        let mut last: Option<Error> = None;
        loop {
            match self.readiness(deadline).await {
                Ok(answer) if answer.code == StatusCode::SERVICE_UNAVAILABLE => {
                    let why = answer.error();
                    let why = why.unwrap_or_else(|| "not ready, without a reason".to_owned());
                    last = Some(Error::NotReady { limit, why });
                }
                Ok(answer) => return answer.success().map(|_| ()),
                // The deadline cuts the last request off; what the compute said before says more.
                Err(error @ (Error::NotReached(_) | Error::Broken(_) | Error::Deadline)) => {
                    let gone = matches!(error, Error::NotReached(_));
                    last = last.filter(|_| !gone).or(Some(error));
                }
                Err(error) => return Err(error),
            }
            // Returns early at the deadline.
            let _ = timeout_at(deadline, sleep_until(Instant::now() + PAUSE)).await;
            if Instant::now() >= deadline
                && let Some(last) = last.take()
            {
                return Err(last);
            }
        }
    }
}

/// Whether a compute in this status cannot reach the wanted one by itself.
const fn never(status: ComputeStatus, wanted: ComputeStatus) -> bool {
    match status {
        ComputeStatus::Failed | ComputeStatus::Terminated => true,
        _ => status.is_ending() && !wanted.is_ending(),
    }
}
