//! Limits that are raised early, so that Postgres inherits them: core dumps (01 §19.4) and open
//! descriptors.
//!
//! Never fatal: an unprivileged container cannot raise the hard limits, and a compute without
//! core dumps, or with few connections, is still a compute.

use std::fmt;

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

/// Outcome of raising the limit; `Display` is a line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreLimit {
    /// Cores of any size.
    Unlimited,
    /// The soft limit is now the hard limit, in bytes; raising that needs privileges.
    HardLimit(rlim_t),
    /// Nothing could be changed.
    Unchanged(Errno),
}

impl fmt::Display for CoreLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("core dumps are unlimited"),
            Self::HardLimit(0) => f.write_str("core dumps are off: the hard limit is 0"),
            Self::HardLimit(bytes) => {
                write!(f, "core dumps are limited to {bytes} bytes, the hard limit")
            }
            Self::Unchanged(errno) => write!(f, "could not raise the core-dump limit: {errno}"),
        }
    }
}

/// Raises soft and hard limit to unlimited, else the soft one to the hard one.
pub fn raise_core_limit() -> CoreLimit {
    if setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return CoreLimit::Unlimited;
    }
    let raised = getrlimit(Resource::RLIMIT_CORE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, hard, hard).map(|()| hard));
    match raised {
        Ok(RLIM_INFINITY) => CoreLimit::Unlimited,
        Ok(hard) => CoreLimit::HardLimit(hard),
        Err(errno) => CoreLimit::Unchanged(errno),
    }
}

/// More descriptors than this are not needed, and some programs look at every possible one when
/// they start.
const ENOUGH_DESCRIPTORS: rlim_t = 65_536;

/// Outcome of raising the limit of open descriptors; `Display` is a line for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorLimit {
    /// The present limit; unchanged if it was enough or cannot be higher.
    Now(rlim_t),
    /// Nothing could be changed.
    Unchanged(Errno),
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(descriptors) => write!(f, "{descriptors} descriptors may be open"),
            Self::Unchanged(errno) => write!(f, "could not raise the descriptor limit: {errno}"),
        }
    }
}

/// Raises the soft limit of open descriptors to the hard one, 65,536 at most.
pub fn raise_descriptor_limit() -> DescriptorLimit {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = soft.max(hard.min(ENOUGH_DESCRIPTORS));
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map(|()| wanted)
    });
    raised.map_or_else(DescriptorLimit::Unchanged, DescriptorLimit::Now)
}

/// How many descriptors may be open; a low number if that cannot be found out.
pub fn descriptor_limit() -> u64 {
    const FEW: rlim_t = 256;
    getrlimit(Resource::RLIMIT_NOFILE).map_or(FEW, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_descriptors_if_there_are() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let wanted = before.max(hard.min(ENOUGH_DESCRIPTORS));
        assert_eq!(raise_descriptor_limit(), DescriptorLimit::Now(wanted));
        assert_eq!(descriptor_limit(), wanted);
    }

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let outcome = raise_core_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert_eq!(soft, hard, "{outcome}");
    }
}
