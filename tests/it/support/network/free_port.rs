//! Ports for the processes under test.
//!
//! Another process can take a port that was only found to be free before it is used: another test,
//! or any outgoing connection on this machine. So these ports lie below the range that the system
//! assigns, and each is given out once.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;

/// The system's own range begins at 32768 unless it was changed.
const RANGE: std::ops::Range<u16> = 16_384..32_768;

/// A port that is not in use and that no other test gets, also not one of another process.
pub fn free_port() -> u16 {
    /// The claims, held as long as the process lives.
    static CLAIMS: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    loop {
        let port = fastrand::u16(RANGE);
        // The name exists as long as the socket, for all users, and in no file system.
        let name = SocketAddr::from_abstract_name(format!("compute_ctl-test-port-{port}"));
        let Ok(claim) = UnixDatagram::bind_addr(&name.unwrap()) else { continue };
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
}
