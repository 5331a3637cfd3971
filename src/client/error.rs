//! Why a call has no result.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::state::ComputeStatus;

/// Why a call has no result. The text is a sentence for operators, without the URL.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The time limit of the call expired. What the call asked for may still happen.
    #[error("the compute did not answer in time")]
    Deadline,
    /// No connection.
    #[error("could not reach the compute: {0}")]
    NotReached(String),
    /// The connection broke during the answer, for instance because the process ended.
    #[error("the connection broke before the answer was complete: {0}")]
    Broken(String),
    /// The server is not a compute: its answer has more than 64 MiB.
    #[error("the answer is larger than an answer of a compute can be")]
    TooLarge,
    /// The server answered with another status code than those of success.
    #[error("the compute answered {0}")]
    Refused(Refusal),
    /// The server is not a compute, or is one of an unknown version: its answer is not this.
    #[error("the answer is not {0}")]
    Unexpected(&'static str),
    /// The compute cannot get the status any more that [`super::Client::wait_for`] waits for.
    #[error("{}{}", ending(*status), because(why.as_deref()))]
    Never {
        /// Its status.
        status: ComputeStatus,
        /// Member `error` of its status document.
        why: Option<String>,
    },
    /// The compute does not have the status after the time limit of [`super::Client::wait_for`].
    #[error(
        "the compute did not become {} within {limit:?}, its status is {}",
        wanted.name(),
        last.map_or("unknown", ComputeStatus::name)
    )]
    NotInTime {
        /// The status to wait for.
        wanted: ComputeStatus,
        /// The time limit.
        limit: Duration,
        /// The last status that the compute showed.
        last: Option<ComputeStatus>,
    },
    /// Postgres does not serve after the time limit of [`super::Client::wait_until_ready`].
    #[error("the compute did not become ready within {limit:?}, it is {why}")]
    NotReady {
        /// The time limit.
        limit: Duration,
        /// The last answer of `/ready`.
        why: String,
    },
    /// The compute answered at first, and cannot be reached any more.
    #[error("{error}; the last status it showed is {}", last.name())]
    Lost {
        /// Why it cannot be reached.
        error: Box<Self>,
        /// The last status it showed.
        last: ComputeStatus,
    },
}

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status code, such as 412.
    pub status: u16,
    /// Member `error` of the document: a sentence for operators. `None` if there is none, because
    /// the server is not a compute.
    pub text: Option<String>,
}

impl Error {
    /// The answer of the server, if that is the reason.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(answer) => Some(answer),
            _ => None,
        }
    }
}

/// `412 Precondition Failed: invalid compute status: init`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match reqwest::StatusCode::from_u16(self.status) {
            Ok(status) => write!(f, "{status}")?,
            Err(_) => write!(f, "{}", self.status)?,
        }
        write!(f, ": {}", self.text.as_deref().unwrap_or("without a reason"))
    }
}

const fn ending(status: ComputeStatus) -> &'static str {
    match status {
        ComputeStatus::Failed => "the compute has failed",
        ComputeStatus::Terminated => "the compute has ended",
        _ => "the compute is ending",
    }
}

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let limit = Duration::from_millis(300);
        let wanted = ComputeStatus::Empty;
        for (error, text) in [
            (
                Error::Refused(Refusal { status: 412, text: Some("not now".to_owned()) }),
                "the compute answered 412 Precondition Failed: not now",
            ),
            (
                Error::Refused(Refusal { status: 404, text: None }),
                "the compute answered 404 Not Found: without a reason",
            ),
            (
                Error::NotInTime { wanted, limit, last: Some(ComputeStatus::Running) },
                "the compute did not become empty within 300ms, its status is running",
            ),
            (
                Error::NotInTime { wanted, limit, last: None },
                "the compute did not become empty within 300ms, its status is unknown",
            ),
            (
                Error::Never { status: ComputeStatus::Failed, why: Some("no luck".to_owned()) },
                "the compute has failed: no luck",
            ),
            (
                Error::Lost { error: Box::new(Error::Deadline), last: ComputeStatus::Init },
                "the compute did not answer in time; the last status it showed is init",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
