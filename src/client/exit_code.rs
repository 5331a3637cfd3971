//! Exit codes of the client.

/// Exit code of the client; the numbers are an interface. 2 is a usage error, before anything is
/// done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The condition holds, or the request succeeded.
    Ok = 0,
    /// The compute or the request has failed; also: the token file cannot be read.
    Failed = 1,
    /// No server answered at the URL.
    NotReached = 3,
    /// The timeout expired.
    Timeout = 4,
    /// The token was refused, or one is required.
    Refused = 5,
    /// Not possible in the compute's present status.
    WrongStatus = 6,
}
