//! How a spec came not to be in force, which decides the answer to its sender and the status.
//!
//! | | what was changed | answer | status |
//! |---|---|---|---|
//! | [`NotApplied::Refused`] | nothing, and the spec is at fault | 400 | as before |
//! | [`NotApplied::NotBegun`] | nothing, but the spec may be good | 500 | as before |
//! | [`NotApplied::Failed`] | something, which was taken back as far as possible | 500 | `failed` |
//!
//! A refresh tries again after all of them, and the spec before it is in force throughout.

use crate::failpoints::edges::Injected;

/// Why a spec is not in force.
#[derive(Debug)]
pub(crate) enum NotApplied {
    /// The spec cannot be used. Neither Postgres nor a program beside it has seen anything of it.
    Refused(anyhow::Error),
    /// Nothing was changed, for a reason that is not in the spec, such as a full disk.
    NotBegun(anyhow::Error),
    /// The change had begun.
    Failed(anyhow::Error),
}

impl From<Injected> for NotApplied {
    fn from(injected: Injected) -> Self {
        Self::NotBegun(injected.into())
    }
}

impl NotApplied {
    /// The error, with its causes.
    pub(crate) const fn error(&self) -> &anyhow::Error {
        match self {
            Self::Refused(error) | Self::NotBegun(error) | Self::Failed(error) => error,
        }
    }

    /// The error alone, for a caller that treats all of them alike.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Refused(error) | Self::NotBegun(error) | Self::Failed(error) => error,
        }
    }

    /// Whether something was changed.
    pub(crate) const fn has_begun(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}
