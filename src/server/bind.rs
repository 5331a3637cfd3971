//! Ports: reserved before anything else happens, opened when the server can answer.
//!
//! A reserved port is bound without listening: no other program gets it, and clients are refused
//! until [`ReservedPort::listen`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

use super::limits::ServerLimits;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Silence after which the system probes a client, so that a client that vanished does not hold its
/// connection forever.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Tries to find a port that is free on all addresses, when the caller asks for any port.
const FREE_PORT_TRIES: usize = 16;

/// What `localhost` stands for.
pub(crate) const LOOPBACK: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The sockets of one server, bound but not open, all on the same port; or open already, as a
/// service manager has opened them.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    port: u16,
    sockets: Vec<Socket>,
}

/// An address cannot be bound.
#[derive(Debug)]
pub(crate) struct NotBound {
    /// The address.
    pub(crate) address: IpAddr,
    /// The error of the system.
    pub(crate) error: io::Error,
}

impl ReservedPort {
    /// Reserves a port on all interfaces, over IPv4 and IPv6 if the host has both; 0 takes any free
    /// one.
    pub(crate) fn on_all_interfaces(port: u16) -> io::Result<Self> {
        let socket = match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if is_missing_family(&error) => bind((Ipv4Addr::UNSPECIFIED, port).into())?,
            other => other?,
        };
        Ok(Self { port: local_port(&socket)?, sockets: vec![socket] })
    }

    /// Reserves the same port on each of the addresses; 0 takes one that is free on all of them.
    /// Addresses of [`LOOPBACK`] that the host lacks are skipped, as long as one address is left.
    pub(crate) fn on_each(port: u16, addresses: &[IpAddr]) -> Result<Self, NotBound> {
        let mut tries = 1..=FREE_PORT_TRIES;
        loop {
            match bind_each(port, addresses) {
                // The port that was free on one address is taken on the other.
                Err(failed)
                    if port == 0
                        && failed.error.kind() == io::ErrorKind::AddrInUse
                        && tries.next().is_some() => {}
                result => return result,
            }
        }
    }

    /// Sockets that listen already; `None` if there are none.
    pub(crate) fn inherited(listeners: Vec<StdListener>) -> io::Result<Option<Self>> {
        let sockets: Vec<Socket> = listeners.into_iter().map(Socket::from).collect();
        let Some(first) = sockets.first() else { return Ok(None) };
        let port = local_port(first)?;
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        Ok(Some(Self { port, sockets }))
    }

    /// The port; for a request with 0 the port that the system chose.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that other machines can reach.
    pub(crate) fn addresses_outside_loopback(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = self.sockets.iter().filter_map(|socket| socket.local_addr().ok());
        let addresses = addresses.filter_map(|address| Some(address.as_socket()?.ip()));
        addresses.filter(|address| !address.is_loopback())
    }

    /// Opens the port. Fails only if another program reserved it in the same way and was faster.
    /// Must be called inside a runtime.
    pub(crate) fn listen(self, limits: &ServerLimits) -> io::Result<Vec<TcpListener>> {
        let listen = |socket: Socket| {
            // Set only now: with it, a successor can bind the port at once.
            socket.set_reuse_address(true)?;
            // Connections inherit these two options.
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            // This also ends a connection whose client acknowledges packets, but reads nothing.
            socket.set_tcp_user_timeout(Some(limits.unread))?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        self.sockets.into_iter().map(listen).collect()
    }
}

fn bind_each(mut port: u16, addresses: &[IpAddr]) -> Result<ReservedPort, NotBound> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for address in addresses.iter().copied() {
        let bound = bind(SocketAddr::new(address, port));
        match bound.and_then(|socket| Ok((local_port(&socket)?, socket))) {
            Ok((number, socket)) => {
                port = number;
                sockets.push(socket);
            }
            // Only loopback addresses may be missing.
            Err(error) if is_missing_family(&error) && LOOPBACK.contains(&address) => {
                missing = Some(NotBound { address, error });
            }
            Err(error) => return Err(NotBound { address, error }),
        }
    }
    match missing {
        Some(missing) if sockets.is_empty() => Err(missing),
        _ => Ok(ReservedPort { port, sockets }),
    }
}

/// Binds one socket without listening.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let SocketAddr::V6(v6) = address {
        // Does not rely on the system's default: the external server needs both families.
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    match socket.bind(&address.into()) {
        // The first try is without SO_REUSEADDR, because two sockets that have it and do not
        // listen yet may share a port. That try also fails if a predecessor's closed connections
        // are in TIME_WAIT; with the flag, only sockets in use make the bind fail.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
        }
        other => other?,
    }
    Ok(socket)
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    Ok(socket.local_addr()?.as_socket().map_or(0, |address| address.port()))
}

/// Whether the host lacks IPv6 (or IPv4), or lacks this address.
fn is_missing_family(error: &io::Error) -> bool {
    use nix::libc::{EAFNOSUPPORT, EPROTONOSUPPORT};
    error.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EPROTONOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::super::testing::port_of_closed_connection;
    use super::*;

    /// The one case in which two processes can reserve the same port: the slower one gets the
    /// error when it opens the port.
    #[tokio::test]
    async fn a_port_reserved_twice_opens_once() {
        let port = port_of_closed_connection();
        let first = ReservedPort::on_all_interfaces(port).unwrap();
        let Ok(second) = ReservedPort::on_all_interfaces(port) else { return };
        let _listening = first.listen(&ServerLimits::default()).unwrap();
        let error = second.listen(&ServerLimits::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
