//! Sockets that a service manager has opened for this process (`sd_listen_fds(3)`).
//!
//! Clients that come before the compute serves wait in the queue of such a socket, and the port is
//! never free for another program, not even between two runs of the service.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;
use thiserror::Error;

/// A descriptor of the service manager cannot be used.
#[derive(Debug, Error)]
#[error(
    "LISTEN_FDS: socket {} of {count} {problem}; give this program TCP sockets that listen, for its \
     external HTTP server only", .index + 1
)]
pub struct UnusableSocket {
    index: usize,
    count: usize,
    problem: String,
}

/// Takes over the sockets of `LISTEN_FDS`, unless `LISTEN_PID` names another process. No child
/// inherits them.
///
/// Must be called before the process opens a descriptor: the numbers of the sockets are fixed.
///
/// # Errors
/// A descriptor is not a TCP socket, or does not listen.
pub fn listeners() -> Result<Vec<TcpListener>, UnusableSocket> {
    let mut inherited = ListenFd::from_env();
    let count = inherited.len();
    let unusable = |index| move |problem| UnusableSocket { index, count, problem };
    let mut listeners = Vec::new();
    for index in 0..count {
        let taken = inherited.take_tcp_listener(index);
        let taken = taken.map_err(|error| unusable(index)(format!("cannot be used: {error}")))?;
        let Some(listener) = taken else { continue };
        check(&listener).map_err(unusable(index))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn check(listener: &TcpListener) -> Result<SocketAddr, String> {
    match SockRef::from(listener).is_listener() {
        Ok(true) => {}
        Ok(false) => return Err("does not listen".to_owned()),
        Err(error) => return Err(format!("cannot be asked whether it listens: {error}")),
    }
    listener.local_addr().map_err(|error| format!("has no address: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_socket_must_listen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(check(&listener).unwrap(), listener.local_addr().unwrap());
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        assert_eq!(check(&bound.into()).unwrap_err(), "does not listen");
    }
}
