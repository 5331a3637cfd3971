//! A status and a failure, as the page shows them.

use crate::node::StatusDocument;
use crate::state::ComputeStatus;

/// The class that gives a status its colour.
pub(super) const fn tone(status: ComputeStatus) -> &'static str {
    match status {
        ComputeStatus::Running => "good",
        ComputeStatus::Failed => "bad",
        ComputeStatus::Empty | ComputeStatus::Terminated => "idle",
        ComputeStatus::TerminationPendingFast | ComputeStatus::TerminationPendingImmediate => {
            "ending"
        }
        ComputeStatus::Init
        | ComputeStatus::Configuration
        | ComputeStatus::ConfigurationPending
        | ComputeStatus::RefreshConfiguration
        | ComputeStatus::RefreshConfigurationPending => "busy",
    }
}

/// The name of a status with blanks.
pub(super) fn words(status: ComputeStatus) -> String {
    status.name().replace('_', " ")
}

/// The failure to show: the present one, or the last.
pub(super) fn error_of(status: &StatusDocument) -> Option<&str> {
    let last = status.extra.as_ref().and_then(|extra| extra.last_failure.as_ref());
    status.error.as_deref().or(last.map(|failure| failure.error.as_str()))
}
