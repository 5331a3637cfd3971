//! Faults by name, for tests (03 §8.4). Only in builds with the feature `testing`.
//!
//! Code that can be made to fail asks `fail::fail_point!`; here the points get their actions, from
//! the environment at start and over HTTP later.

use thiserror::Error;

/// `name=actions;name=actions`
pub const VARIABLE: &str = "FAILPOINTS";

/// The one action that the library does not know.
const EXIT: &str = "exit";

/// A point cannot be configured.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("failpoint {name:?}: {reason}")]
pub struct FailpointError {
    /// The point.
    pub name: String,
    /// What is wrong with its actions.
    pub reason: String,
}

/// Sets the points that the environment names. A malformed one is an error.
pub fn set_up() -> Result<(), FailpointError> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    for point in text.split(';').map(str::trim).filter(|point| !point.is_empty()) {
        let Some((name, actions)) = point.split_once('=') else {
            let reason = format!("{VARIABLE} is not of the form name=actions");
            return Err(FailpointError { name: point.to_owned(), reason });
        };
        configure(name, actions)?;
    }
    Ok(())
}

/// Sets one point: `[p%][n*]task[(arg)]`, chained with `->`, or `exit`, which ends the process
/// with code 1 when the point is hit.
pub fn configure(name: &str, actions: &str) -> Result<(), FailpointError> {
    tracing::info!("failpoint {name:?} is set to {actions:?}");
    let result =
        if actions == EXIT { fail::cfg_callback(name, exit) } else { fail::cfg(name, actions) };
    result.map_err(|reason| FailpointError { name: name.to_owned(), reason })
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "what is tested is an end without any cleaning up"
)]
fn exit() {
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_checked() {
        configure("test-point", "50%1*return(x)->off").unwrap();
        configure("test-point", "off").unwrap();
        configure("test-exit", "exit").unwrap();
        let error = configure("test-point", "explode").unwrap_err();
        assert!(error.to_string().starts_with("failpoint \"test-point\": "), "{error}");
    }
}
