//! Limits and deadlines of the two servers.

use std::time::Duration;

use crate::server::ServerLimits;

/// Limits on the clients of a server, and how long the server waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpLimits {
    /// Connections, headers, unread answers.
    pub(super) server: ServerLimits,
    /// Bytes of a body (03 W21).
    pub(super) body_bytes: usize,
    /// Bytes of all bodies that are in progress on a server.
    pub(super) bodies_bytes: usize,
    /// Silence within a body.
    pub(super) body_idle: Duration,
    /// Time for a whole body.
    pub(super) body_total: Duration,
    /// The communicator in Postgres: connecting, the answer, each piece of it (03 §9).
    pub(super) communicator: Duration,
    /// `/live` says no when the last tick of the driver's task is older than this.
    pub(super) heartbeat_limit: Duration,
    /// Grace for the HTTP requests in progress at the end of the process.
    pub(crate) shutdown: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            server: ServerLimits::default(),
            body_bytes: 32 * 1024 * 1024,
            bodies_bytes: 96 * 1024 * 1024,
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
            communicator: Duration::from_secs(10),
            heartbeat_limit: Duration::from_secs(10),
            shutdown: Duration::from_millis(500),
        }
    }
}

impl HttpLimits {
    /// Limits for a process that may open this many descriptors.
    pub(crate) fn for_descriptors(descriptors: u64) -> Self {
        Self { server: ServerLimits::for_descriptors(descriptors), ..Self::default() }
    }

    /// Limits of the internal server: its clients have no token, and its bodies are small.
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
