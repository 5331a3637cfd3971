//! Why a spec is refused.

use std::fmt;

use thiserror::Error;

use super::pageserver::PageserverInfoError;
use crate::secret::UnusableSecret;

/// A text that is not an id. It is shown if it looks like a placeholder that was left in a template,
/// and not a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadId {
    text: Option<String>,
    characters: usize,
}

/// The longest text that is shown.
const LONGEST_PLACEHOLDER: usize = 32;

impl BadId {
    pub(super) fn new(text: &str) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-${}<>%@. ".contains(c);
        let is_shown = text.len() <= LONGEST_PLACEHOLDER && text.chars().all(is_plain);
        Self { text: is_shown.then(|| text.to_owned()), characters: text.chars().count() }
    }
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "its value is {text:?}")?,
            None => write!(f, "its value has {} characters", self.characters)?,
        }
        f.write_str(", 32 hexadecimal digits are needed")
    }
}

/// Why a well-formed spec cannot be used. Clients see these texts with status 400.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SpecError {
    /// None of the three spellings is present.
    #[error("pageserver connection information should be provided")]
    NoPageserver,
    /// Setting `neon.stripe_size` is not a u32.
    #[error("setting neon.stripe_size is not a number of pages")]
    BadStripeSize,
    /// The pageserver information cannot be used.
    #[error(transparent)]
    Pageserver(#[from] PageserverInfoError),
    /// A primary without safekeepers.
    #[error("safekeeper connstrings should be provided")]
    NoSafekeepers,
    /// A primary with an empty list.
    #[error("safekeeper_connstrings is empty")]
    SafekeepersEmpty,
    /// The same address twice.
    #[error("duplicate entry in safekeeper_connstrings: {0}!")]
    DuplicateSafekeeper(String),
    /// The same entry twice, in a form that is not known and may hold a password.
    #[error("duplicate entry in safekeeper_connstrings: no. {0}!")]
    DuplicateEntry(usize),
    /// An entry is blank.
    #[error("safekeeper address no. {0} is not of the form host:port: it is empty")]
    BadSafekeeper(usize),
    /// Neither member nor setting.
    #[error("tenant id should be provided")]
    NoTenant,
    /// The setting is not an id.
    #[error("invalid tenant id in spec.cluster.settings[neon.tenant_id]: {0}")]
    BadTenant(BadId),
    /// Neither member nor setting.
    #[error("timeline id should be provided")]
    NoTimeline,
    /// The setting is not an id.
    #[error("invalid timeline id in spec.cluster.settings[neon.timeline_id]: {0}")]
    BadTimeline(BadId),
    /// A token that cannot be sent.
    #[error(transparent)]
    Token(#[from] UnusableSecret),
    /// `logs_export_host` without a port (02 W4).
    #[error("Invalid host format for Postgres logs export: it is not of the form host:port")]
    BadLogsExportHost,
}
