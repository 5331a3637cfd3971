//! The core-dump limit (01 §19.4): raised early, so that Postgres inherits it.
//!
//! Never fatal: an unprivileged container cannot raise the hard limit, and a compute without
//! core dumps is still a compute.

use std::fmt;

use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

/// What came of raising the limit; `Display` is a line for the log.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let outcome = raise_core_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        assert_eq!(soft, hard, "{outcome}");
    }
}
