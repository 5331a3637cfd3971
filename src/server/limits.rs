//! What clients may use up of a server.

use std::time::Duration;

/// Of the table of descriptors each server may use so much; the rest is for Postgres' pipes, the
/// archive and SQL sessions.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// What the clients of a server may use up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Open connections. For one more the longest idle one is dropped; if none is idle, it waits in
    /// the queue of the system.
    pub(crate) connections: usize,
    /// Time for the headers of a request, from the moment the connection is idle.
    pub(crate) header_read: Duration,
    /// Bytes of request line and headers; at least 8192.
    pub(crate) header_bytes: usize,
    /// How long a client may leave an answer unread.
    pub(crate) unread: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_read: Duration::from_secs(60),
            header_bytes: 64 * 1024,
            unread: Duration::from_secs(60),
        }
    }
}

impl ServerLimits {
    /// Limits for a process that may have so many descriptors open.
    pub(crate) fn for_descriptors(descriptors: u64) -> Self {
        let usual = Self::default();
        let share = usize::try_from(descriptors / SHARE_OF_DESCRIPTORS).unwrap_or(usize::MAX);
        Self { connections: share.clamp(1, usual.connections), ..usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_most_descriptors_to_others() {
        let connections = |descriptors| ServerLimits::for_descriptors(descriptors).connections;
        assert_eq!(connections(0), 1);
        assert_eq!(connections(256), 64);
        assert_eq!(connections(1024), 256);
        assert_eq!(connections(20_000), 1024);
        assert_eq!(connections(u64::MAX), 1024);
    }
}
