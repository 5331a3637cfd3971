//! The socket to the service manager: the datagrams of `sd_notify(3)`.
//!
//! Sending never waits: a service manager that reads too slowly costs a message, and the caller
//! learns of it. Nothing is kept open between two messages, so a manager that was started again
//! under the same address gets them too.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

/// `NOTIFY_SOCKET` has a value without a meaning here.
#[derive(Debug, Error)]
#[error(
    "NOTIFY_SOCKET={} cannot be used: it is neither an absolute path nor an abstract name that \
     begins with @; the service manager gets no messages", .address.display()
)]
pub(crate) struct BadAddress {
    address: OsString,
}

/// Where the messages go.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    address: SocketAddr,
    socket: UnixDatagram,
}

impl NotifySocket {
    /// `address` is the value of `NOTIFY_SOCKET`. The socket itself may be missing for now.
    ///
    /// # Errors
    /// The address has another form than a path or an abstract name, or there are no descriptors.
    pub(crate) fn new(address: &OsStr) -> anyhow::Result<Self> {
        let bad = || BadAddress { address: address.to_owned() };
        let address = match address.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(address).map_err(|_| bad())?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).map_err(|_| bad())?,
            _ => return Err(bad().into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { address, socket })
    }

    /// Sends one message: `NAME=value` lines, separated by line feeds.
    ///
    /// # Errors
    /// The service manager has no such socket (any more), or does not read it.
    pub(crate) fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(|_| ())
    }
}

/// The monotonic clock in microseconds, as the service manager compares it.
pub(crate) fn monotonic_usec() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(nanoseconds / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_at_paths_and_abstract_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = NotifySocket::new(path.as_os_str()).unwrap();
        assert!(by_path.send("READY=1").is_err(), "the manager is not there yet");
        let manager = UnixDatagram::bind(&path).unwrap();
        by_path.send("READY=1").unwrap();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");

        let name = format!("compute_ctl-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        NotifySocket::new(format!("@{name}").as_ref()).unwrap().send("STATUS=x").unwrap();
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=x");
    }

    #[test]
    fn a_manager_that_does_not_read_costs_a_message_and_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let socket = NotifySocket::new(path.as_os_str()).unwrap();
        let full = (0..100_000).find_map(|_| socket.send("WATCHDOG=1").err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn other_addresses_are_named() {
        for address in ["", "vsock:2:1", "notify"] {
            let error = NotifySocket::new(address.as_ref()).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("NOTIFY_SOCKET={address} cannot be used")),
                "{error}"
            );
        }
    }
}
