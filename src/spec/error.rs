//! Why a spec is refused.

use thiserror::Error;

use super::pageserver::PageserverInfoError;
use crate::secret::UnusableSecret;

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
    /// An entry is not `host:port`. The text does not repeat it: it may be a URL with a password.
    #[error("safekeeper address no. {0} is not of the form host:port")]
    BadSafekeeper(usize),
    /// Neither member nor setting.
    #[error("tenant id should be provided")]
    NoTenant,
    /// The setting is not an id.
    #[error("invalid tenant id")]
    BadTenant,
    /// Neither member nor setting.
    #[error("timeline id should be provided")]
    NoTimeline,
    /// The setting is not an id.
    #[error("invalid timeline id")]
    BadTimeline,
    /// A token that cannot be sent.
    #[error(transparent)]
    Token(#[from] UnusableSecret),
    /// `logs_export_host` without a port (02 W4).
    #[error("Invalid host format for Postgres logs export: it is not of the form host:port")]
    BadLogsExportHost,
}
