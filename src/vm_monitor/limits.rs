//! Limits of the VM monitor.

use std::time::Duration;

use super::file_cache::FileCacheLimits;
use crate::server::ServerLimits;

/// How long things may take, and how often they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmMonitorLimits {
    /// From the upgrade to the end of the set-up (08 §3).
    pub handshake: Duration,
    /// Between two samples of the memory (08 §6.2).
    pub sample: Duration,
    /// How long an answer that needs no work waits for those before it.
    pub overtake: Duration,
    /// For sending one message to an agent that does not read.
    pub send: Duration,
    /// First and longest pause between two tries to get a port that is in use.
    pub bind_pause: (Duration, Duration),
    /// The SQL.
    pub file_cache: FileCacheLimits,
}

impl Default for VmMonitorLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(4),
            sample: Duration::from_millis(100),
            overtake: Duration::from_millis(250),
            send: Duration::from_secs(5),
            bind_pause: (Duration::from_secs(1), Duration::from_secs(30)),
            file_cache: FileCacheLimits::default(),
        }
    }
}

/// Limits of the HTTP side: there is one agent, and others that look.
pub(super) const HTTP: ServerLimits = ServerLimits {
    connections: 16,
    handshake: Duration::from_secs(5),
    header_read: Duration::from_secs(5),
    header_bytes: 8192,
    idle: Duration::from_secs(5),
    unread: Duration::from_secs(10),
};

/// Largest message and frame in bytes; those of the protocol have some hundred.
pub(super) const MESSAGE: usize = 64 * 1024;
/// Buffer of a connection for reading, in bytes.
pub(super) const BUFFER: usize = 4 * 1024;
