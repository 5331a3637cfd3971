//! What a client of the two servers may use up, and how long a route waits.

use std::time::Duration;

/// Of the table of descriptors each server may use so much; the rest is for Postgres' pipes, the
/// archive and SQL sessions.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// What a client may use up.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Open connections per server. For one more the longest idle one is dropped; if none is idle,
    /// it waits in the queue of the system.
    pub connections: usize,
    /// Time for the headers of a request, from the moment the connection is idle.
    pub header_read: Duration,
    /// Bytes of request line and headers; at least 8192.
    pub header_bytes: usize,
    /// Bytes of a body (03 W21).
    pub body_bytes: usize,
    /// Bytes of all bodies that are in progress on a server.
    pub bodies_bytes: usize,
    /// Silence within a body.
    pub body_idle: Duration,
    /// Time for a whole body.
    pub body_total: Duration,
    /// How long a client may leave an answer unread.
    pub unread: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            header_read: Duration::from_secs(60),
            header_bytes: 64 * 1024,
            body_bytes: 32 * 1024 * 1024,
            bodies_bytes: 96 * 1024 * 1024,
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
            unread: Duration::from_secs(60),
        }
    }
}

impl HttpLimits {
    /// Limits for a process that may have so many descriptors open.
    pub fn for_descriptors(descriptors: u64) -> Self {
        let usual = Self::default();
        let share = usize::try_from(descriptors / SHARE_OF_DESCRIPTORS).unwrap_or(usize::MAX);
        Self { connections: share.clamp(1, usual.connections), ..usual }
    }

    /// Limits of the internal server: nobody there shows a token, and no body is large.
    pub(super) fn for_neighbours(self) -> Self {
        let (bytes, total) = (2 * 1024 * 1024, Duration::from_secs(10));
        let in_all = 16 * 1024 * 1024;
        Self {
            body_bytes: self.body_bytes.min(bytes),
            bodies_bytes: self.bodies_bytes.min(in_all),
            body_total: self.body_total.min(total),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_most_descriptors_to_others() {
        let connections = |descriptors| HttpLimits::for_descriptors(descriptors).connections;
        assert_eq!(connections(0), 1);
        assert_eq!(connections(256), 64);
        assert_eq!(connections(1024), 256);
        assert_eq!(connections(20_000), 1024);
        assert_eq!(connections(u64::MAX), 1024);
    }
}
