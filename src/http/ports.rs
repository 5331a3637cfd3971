//! Ports: reserved before anything else happens, opened when the servers can answer.
//!
//! A taken port must be an error before PGDATA is touched (03 W2, T30), but an empty compute
//! answers only after its warm-up. So [`reserve`] binds the sockets without listening.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::server::{LOOPBACK, NotBound, ReservedPort};

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// For the control plane, on all interfaces unless told otherwise.
    External,
    /// For Postgres and its neighbours, on the loopback addresses (03 W1).
    Internal,
}

impl Server {
    const fn flag(self) -> &'static str {
        match self {
            Self::External => "--external-http-port",
            Self::Internal => "--internal-http-port",
        }
    }

    const fn address_flag(self) -> &'static str {
        match self {
            Self::External => "--external-http-bind",
            Self::Internal => "--internal-http-bind",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::External => "external",
            Self::Internal => "internal",
        })
    }
}

/// A server cannot use its port.
#[derive(Debug, Error)]
#[error(
    "the {server} HTTP server cannot use port {port}{}: {error}; {}",
    address.map(|address| format!(" of {address}")).unwrap_or_default(),
    self.advice()
)]
pub(crate) struct BindError {
    pub(super) server: Server,
    /// The address, if the port was not meant for all.
    pub(super) address: Option<IpAddr>,
    /// The requested port; 0 for any.
    pub(super) port: u16,
    /// The error of the system.
    pub(super) error: io::Error,
}

impl BindError {
    fn advice(&self) -> String {
        let flag = self.server.flag();
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("stop the program that uses it, or choose another port with {flag}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("choose a port from 1024 up with {flag}, or grant the privilege")
            }
            io::ErrorKind::AddrNotAvailable if self.address.is_some() => format!(
                "this machine does not have that address: name one of its own with {}",
                self.server.address_flag()
            ),
            _ => format!("check the network of this machine, or choose another port with {flag}"),
        }
    }
}

/// Both ports, bound but not open.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(super) external: ReservedPort,
    pub(super) internal: ReservedPort,
}

/// Binds the ports of both servers; 0 takes any free one.
///
/// Each server is given by its port and its address. The external server binds all interfaces, over
/// IPv4 and IPv6 if the host has both, or only the addresses that are named. The internal server
/// binds `127.0.0.1` and `::1`; one of these that the host lacks is skipped. Another address
/// is bound in addition, because Postgres and local_proxy look for the server on `localhost`.
pub(crate) fn reserve(
    external: (u16, &[IpAddr]),
    internal: (u16, Option<IpAddr>),
) -> Result<Reserved, BindError> {
    let (port, addresses) = (external.0, external_addresses(external.1));
    let external = if addresses.is_empty() {
        ReservedPort::on_all_interfaces(port).map_err(|error| BindError {
            server: Server::External,
            address: None,
            port,
            error,
        })
    } else {
        ReservedPort::on_each(port, &addresses).map_err(|it| refused(Server::External, port, it))
    };
    reserve_beside(external?, internal)
}

fn refused(server: Server, port: u16, NotBound { address, error }: NotBound) -> BindError {
    BindError { server, address: Some(address), port, error }
}

/// As [`reserve`], for an external server that has its sockets.
pub(crate) fn reserve_beside(
    external: ReservedPort,
    (port, address): (u16, Option<IpAddr>),
) -> Result<Reserved, BindError> {
    let internal = ReservedPort::on_each(port, &internal_addresses(address))
        .map_err(|it| refused(Server::Internal, port, it))?;
    Ok(Reserved { external, internal })
}

/// Addresses of the external server, each once; none stands for all interfaces.
fn external_addresses(named: &[IpAddr]) -> Vec<IpAddr> {
    // One socket for all addresses of both families.
    if named.iter().any(|address| address.is_ipv6() && address.is_unspecified()) {
        return Vec::new();
    }
    let all_of_ipv4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let covers = named.contains(&all_of_ipv4);
    let needed = |it: &&IpAddr| !covers || it.is_ipv6() || **it == all_of_ipv4;
    let mut addresses: Vec<IpAddr> = named.iter().filter(needed).copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Addresses of the internal server. The host may lack loopback addresses, as long as it has one
/// of the list.
fn internal_addresses(bind: Option<IpAddr>) -> Vec<IpAddr> {
    match bind {
        None => LOOPBACK.into(),
        Some(address) if LOOPBACK.contains(&address) => vec![address],
        // One socket for all addresses of both families.
        Some(IpAddr::V6(address)) if address.is_unspecified() => vec![address.into()],
        Some(IpAddr::V4(address)) if address.is_unspecified() => {
            vec![address.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Some(address) => [vec![address], LOOPBACK.into()].concat(),
    }
}

impl Reserved {
    /// The port of the external server.
    pub(crate) fn external_port(&self) -> u16 {
        self.external.port()
    }

    /// The port of the internal server.
    pub(crate) fn internal_port(&self) -> u16 {
        self.internal.port()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::port_of_closed_connection;
    use std::net::{TcpListener as StdListener, TcpStream};

    fn error(external_port: u16, internal_port: u16) -> String {
        reserve((external_port, &[]), (internal_port, None)).unwrap_err().to_string()
    }

    #[test]
    fn reserved_ports_refuse_clients_and_other_owners() {
        let reserved = reserve((0, &[]), (0, None)).unwrap();
        let (external, internal) = (reserved.external_port(), reserved.internal_port());
        assert_ne!(external, internal);
        for port in [external, internal] {
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
            assert!(StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
        }
        let text = error(external, 0);
        assert!(text.contains(&format!("external HTTP server cannot use port {external}")));
        assert!(text.contains("--external-http-port"), "{text}");
        let text = error(0, internal);
        assert!(text.contains(&format!("internal HTTP server cannot use port {internal}")));
        assert!(text.contains("--internal-http-port"), "{text}");
        drop(reserved);
        reserve((external, &[]), (internal, None)).unwrap();
    }

    #[test]
    fn only_the_named_addresses_of_the_external_server_are_bound() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (named, bound) in [
            (&[][..], &[][..]),
            (&["::", "127.0.0.1"], &[]),
            (&["127.0.0.2", "127.0.0.1", "127.0.0.2"], &["127.0.0.1", "127.0.0.2"]),
            (&["127.0.0.1", "0.0.0.0", "::1"], &["0.0.0.0", "::1"]),
        ] {
            let named: Vec<_> = named.iter().map(|it| ip(it)).collect();
            let bound: Vec<_> = bound.iter().map(|it| ip(it)).collect();
            assert_eq!(external_addresses(&named), bound);
        }
        let reserved = reserve((0, &[ip("127.0.0.1")]), (0, None)).unwrap();
        let addresses: Vec<_> = reserved.external.addresses_outside_loopback().collect();
        assert_eq!(addresses, Vec::<IpAddr>::new());
        let foreign = reserve((0, &[ip("192.0.2.1")]), (0, None)).unwrap_err().to_string();
        let begin = "the external HTTP server cannot use port 0 of 192.0.2.1: ";
        assert!(
            foreign.starts_with(begin) && foreign.ends_with("--external-http-bind"),
            "{foreign}"
        );
    }

    #[test]
    fn a_listener_on_either_family_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = StdListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert!(error(port, 0).contains("external"), "{address}");
            assert!(error(0, port).contains("internal"), "{address}");
        }
    }

    #[test]
    fn one_port_cannot_serve_both() {
        let port = reserve((0, &[]), (0, None)).unwrap().external_port();
        assert!(error(port, port).contains("internal"));
    }

    #[test]
    fn ports_of_closed_connections_are_free() {
        let [external, internal] = [(); 2].map(|()| port_of_closed_connection());
        reserve((external, &[]), (internal, None)).unwrap();
    }
}
