//! Exit codes of the client.

/// Why the client ends; the numbers are an interface. 2 is a usage error, before anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It was so, or it was done.
    Ok = 0,
    /// The compute has failed, or the request has; also: the token file cannot be read.
    Failed = 1,
    /// Nobody answered there.
    NotReached = 3,
    /// The time was over.
    Timeout = 4,
    /// The token was refused, or one is needed.
    Refused = 5,
    /// Not possible in the compute's present status.
    WrongStatus = 6,
}
