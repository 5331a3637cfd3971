//! What the clients of the two servers may use up.

use std::time::Duration;

use crate::server::ServerLimits;

/// What the clients of a server may use up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpLimits {
    /// Connections, headers, unread answers.
    pub(crate) server: ServerLimits,
    /// Bytes of a body (03 W21).
    pub(crate) body_bytes: usize,
    /// Bytes of all bodies that are in progress on a server.
    pub(crate) bodies_bytes: usize,
    /// Silence within a body.
    pub(crate) body_idle: Duration,
    /// Time for a whole body.
    pub(crate) body_total: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            server: ServerLimits::default(),
            body_bytes: 32 * 1024 * 1024,
            bodies_bytes: 96 * 1024 * 1024,
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
        }
    }
}

impl HttpLimits {
    /// Limits for a process that may have so many descriptors open.
    pub(crate) fn for_descriptors(descriptors: u64) -> Self {
        Self { server: ServerLimits::for_descriptors(descriptors), ..Self::default() }
    }

    /// Limits of the internal server: its clients show no token, and no body there is large.
    pub(super) fn for_internal(self) -> Self {
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
