//! Shared helpers of the tests of servers.

use std::net::{TcpListener, TcpStream};

/// A port whose last connection is in TIME_WAIT.
pub(crate) fn port_of_closed_connection() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    // The side that closes first gets TIME_WAIT.
    drop(server);
    drop(client);
    port
}
