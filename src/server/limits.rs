//! Limits on the clients of a server.

use std::time::Duration;

/// Each server may use one part in this many of the descriptors; the rest is for Postgres' pipes,
/// the archive and SQL sessions.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// Limits on the clients of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Open connections. For one more, the longest idle one is dropped; if none is idle, the new
    /// one waits in the queue of the system.
    pub(crate) connections: usize,
    /// Time for the handshake of TLS.
    pub(crate) handshake: Duration,
    /// Time for the headers of a request, from their first byte; of the first request, from the
    /// beginning of the connection.
    pub(crate) header_read: Duration,
    /// How long a connection may be idle between two requests. Longer than the 90 s of common
    /// clients, so that these close a connection first and never send a request into the closing.
    pub(crate) idle: Duration,
    /// Bytes of request line and headers; at least 8192.
    pub(crate) header_bytes: usize,
    /// How long a client may leave an answer unread.
    pub(crate) unread: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(60),
            idle: Duration::from_secs(180),
            header_bytes: 64 * 1024,
            unread: Duration::from_secs(60),
        }
    }
}

impl ServerLimits {
    /// Limits for a process that may open this many descriptors.
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
