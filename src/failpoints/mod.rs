//! Faults that tests inject by name (01 §23, 03 §8.4). Only builds with the feature `testing` have
//! failpoints; in other builds the functions here have no effect. Other variables that only such
//! builds read are handled here too.
//!
//! Names in use: `compute-migration`, where `return(n)` fails migration `n`; `compute-prewarm` and
//! `compute-promotion`, where `return` fails a prewarm, or a promotion just before `pg_promote()`;
//! `compute-promotion-unclear`, where `return` fails it though `pg_promote()` was called. Every step of
//! the work of a compute has two more, see [`edges`].

pub(crate) mod edges;

use thiserror::Error;

use crate::env::{BASEBACKUP_RETRIES, FAILPOINTS};

/// Whether this build has failpoints.
pub(crate) const ENABLED: bool = cfg!(feature = "testing");

/// An action of our own, which the library does not have: the process ends with code 1.
const EXIT: &str = "exit";

/// Why a failpoint cannot be set.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum FailpointError {
    /// An entry that is not `name=actions`.
    #[error("failpoint {0:?} is not of the form name=actions")]
    Form(String),
    /// Actions of another grammar than `[p%][n*]task[(argument)]`, chained with `->`.
    #[error("failpoint {name:?}: {reason}")]
    Actions {
        /// The failpoint.
        name: String,
        /// What the library found.
        reason: String,
    },
}

/// The value is not a number of retries.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{BASEBACKUP_RETRIES} is {0:?}, not a number from 0 to 65535")]
pub(crate) struct BadRetries(String);

/// Number of retries of a basebackup, from the variable of that name. Without `testing` it only
/// logs that the variable is ignored.
pub(crate) fn basebackup_retries(text: Option<&str>) -> Result<Option<u32>, BadRetries> {
    let Some(text) = text else { return Ok(None) };
    if !ENABLED {
        tracing::warn!("{BASEBACKUP_RETRIES} is set, this is not a testing build; ignored");
        return Ok(None);
    }
    retries(text).map(Some)
}

fn retries(text: &str) -> Result<u32, BadRetries> {
    text.parse::<u16>().map(u32::from).map_err(|_| BadRetries(text.to_owned()))
}

/// Sets the failpoints of the variable `FAILPOINTS`. Without `testing` it only logs that the
/// variable is ignored.
pub(crate) fn setup(text: Option<&str>) -> Result<(), FailpointError> {
    let Some(text) = text else { return Ok(()) };
    if !ENABLED {
        tracing::warn!("{FAILPOINTS} is set, this build has no failpoints; ignored");
        return Ok(());
    }
    set_all(text)
}

fn set_all(text: &str) -> Result<(), FailpointError> {
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        let form = || FailpointError::Form(entry.to_owned());
        let (name, actions) = entry.split_once('=').ok_or_else(form)?;
        configure(name.trim(), actions.trim())?;
    }
    Ok(())
}

/// Sets one failpoint; `off` removes it. Without `testing` no failpoint is ever hit, so check
/// [`ENABLED`] first.
pub(crate) fn configure(name: &str, actions: &str) -> Result<(), FailpointError> {
    if name.is_empty() || actions.is_empty() {
        return Err(FailpointError::Form(format!("{name}={actions}")));
    }
    let set = match actions {
        EXIT => fail::cfg_callback(name, end_the_process),
        _ => fail::cfg(name, actions),
    };
    set.map_err(|reason| FailpointError::Actions { name: name.to_owned(), reason })?;
    tracing::warn!("failpoint {name} is set to {actions}");
    Ok(())
}

#[expect(clippy::exit, clippy::disallowed_methods, reason = "the fault is that the process ends")]
fn end_the_process() {
    std::process::exit(1);
}

/// Performs the action of the failpoint. Returns the argument of `return`, if that is the action.
pub(crate) async fn hit(name: impl Into<String>) -> Option<String> {
    if !ENABLED {
        return None;
    }
    let name = name.into();
    // `pause` and `sleep` block the thread.
    match tokio::task::spawn_blocking(move || evaluate(&name)).await {
        Ok(returned) => returned,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// The actions of a failpoint that is set; `off` counts as not set.
fn actions(name: &str) -> Option<String> {
    if !ENABLED {
        return None;
    }
    let set = fail::list().into_iter().find(|(set, _)| set == name)?;
    Some(set.1).filter(|actions| actions != "off")
}

fn evaluate(name: &str) -> Option<String> {
    #[cfg(feature = "testing")]
    fail::fail_point!(name, |argument: Option<String>| Some(argument.unwrap_or_default()));
    let _ = name;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_entries_are_refused() {
        for text in ["unit-a", "unit-a=", "=return", "unit-a=return(1", "unit-b=off;unit-a=dance"] {
            assert!(set_all(text).is_err(), "{text}");
        }
        for text in ["", ";", "unit-c=off", "unit-c=1*return(3)->off; unit-d=exit;"] {
            assert_eq!(set_all(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn numbers_of_retries() {
        assert_eq!(retries("0"), Ok(0));
        assert_eq!(retries("65535"), Ok(65_535));
        for text in ["", " 1", "-1", "65536", "many"] {
            let error = retries(text).unwrap_err().to_string();
            assert!(error.starts_with("NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES is "), "{error}");
        }
    }

    #[tokio::test]
    async fn a_failpoint_is_hit_only_in_testing_builds() {
        configure("unit-e", "1*return(7)->off").unwrap();
        assert_eq!(hit("unit-e").await, ENABLED.then(|| "7".to_owned()));
        assert_eq!(hit("unit-e").await, None);
        assert_eq!(hit("unit-unknown").await, None);
    }
}
