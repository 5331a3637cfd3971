//! Ports: reserved before anything else happens, opened when there is something to say.
//!
//! A taken port must be an error before PGDATA is touched (03 W2, T30), but an empty compute
//! answers only when its warm-up is over. So [`reserve`] binds the sockets without listening:
//! nobody else gets the ports, and clients are refused until [`Reserved::serve`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::api::Api;
use super::auth::Authenticator;
use super::limits::HttpLimits;
use super::routes::{external, internal};
use super::serve::Servers;
use crate::node::ComputeNode;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// After so long the system asks a silent client whether it is still there, so that clients that
/// vanished without a word do not hold connections for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Tries to find a free port that both loopback addresses have, when any will do.
const FREE_PORT_TRIES: usize = 16;

/// What `localhost` stands for.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// For the control plane, on all interfaces.
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
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::External => "external",
            Self::Internal => "internal",
        })
    }
}

/// A server cannot have its port.
#[derive(Debug, Error)]
#[error("the {server} HTTP server cannot use port {port}: {source}; {}", self.advice())]
pub struct BindError {
    /// Which server.
    pub server: Server,
    /// The port that was asked for; 0 for any.
    pub port: u16,
    /// What the system said.
    pub source: io::Error,
}

impl BindError {
    fn advice(&self) -> String {
        let flag = self.server.flag();
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                format!("stop the program that uses it, or choose another port with {flag}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("choose a port from 1024 up with {flag}, or grant the privilege")
            }
            _ => format!("check the network of this machine, or choose another port with {flag}"),
        }
    }
}

/// Both ports, bound but not open.
#[derive(Debug)]
pub struct Reserved {
    external: Bound,
    internal: Bound,
}

/// The sockets of one server, all on the same port.
#[derive(Debug)]
struct Bound {
    server: Server,
    port: u16,
    sockets: Vec<Socket>,
}

/// Binds the ports of both servers; 0 takes any free one.
///
/// The external server gets all interfaces, over IPv4 and IPv6 if the host has both. The internal
/// one gets `127.0.0.1` and `::1`, of which the one that the host lacks is skipped; with
/// `internal_bind` that address. Any other than these two comes in addition to them, because Postgres and local_proxy look for the server on `localhost`.
pub fn reserve(
    external_port: u16,
    internal_port: u16,
    internal_bind: Option<IpAddr>,
) -> Result<Reserved, BindError> {
    let bound = |server, port, result: io::Result<(u16, Vec<Socket>)>| match result {
        Ok((port, sockets)) => Ok(Bound { server, port, sockets }),
        Err(source) => Err(BindError { server, port, source }),
    };
    Ok(Reserved {
        external: bound(Server::External, external_port, bind_all_interfaces(external_port))?,
        internal: bound(
            Server::Internal,
            internal_port,
            bind_internal(internal_port, &internal_addresses(internal_bind)),
        )?,
    })
}

fn is_usual_loopback(address: IpAddr) -> bool {
    LOOPBACK.contains(&address)
}

/// Where the internal server listens. Of these the loopback addresses may be missing on the host,
/// as long as one is there.
fn internal_addresses(bind: Option<IpAddr>) -> Vec<IpAddr> {
    match bind {
        None => LOOPBACK.into(),
        Some(address) if is_usual_loopback(address) => vec![address],
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
    pub fn external_port(&self) -> u16 {
        self.external.port
    }

    /// The port of the internal server.
    pub fn internal_port(&self) -> u16 {
        self.internal.port
    }

    /// Opens both ports and serves them on the runtime, the external one first (03 §1). Fails only
    /// if another program reserved a port in the same way and was faster.
    pub fn serve(
        self,
        runtime: &Handle,
        node: Arc<ComputeNode>,
        authenticator: Authenticator,
        limits: HttpLimits,
    ) -> Result<Servers, BindError> {
        let _entered = runtime.enter();
        let (external_port, internal_port) = (self.external_port(), self.internal_port());
        for address in self.internal.addresses_outside_loopback() {
            tracing::warn!(
                "the internal HTTP server asks for no token and is reachable from outside, on \
                 {address} port {internal_port}: whoever reaches it can install extensions, grant \
                 privileges and have the configuration fetched again"
            );
        }
        // Both are opened before either is served: a failure leaves nothing half open.
        let external_listeners = self.external.listen(&limits)?;
        let internal_listeners = self.internal.listen(&limits)?;
        let mut servers = Servers::new(external_port, internal_port, limits);
        let api = Api::of(Arc::clone(&node), limits);
        let neighbours = Api::of(node, limits.for_neighbours());
        servers.serve(external_listeners, external(api, authenticator));
        servers.serve(internal_listeners, internal(neighbours));
        tracing::info!(
            "HTTP servers are listening: external on port {external_port}, \
             internal on port {internal_port}"
        );
        Ok(servers)
    }
}

impl Bound {
    fn addresses_outside_loopback(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = self.sockets.iter().filter_map(|socket| socket.local_addr().ok());
        let addresses = addresses.filter_map(|address| Some(address.as_socket()?.ip()));
        addresses.filter(|address| !address.is_loopback())
    }

    /// Must be called inside a runtime.
    fn listen(self, limits: &HttpLimits) -> Result<Vec<TcpListener>, BindError> {
        let Self { server, port, sockets } = self;
        let listen = |socket: Socket| {
            // From now on, so that the port is free for a successor at once.
            socket.set_reuse_address(true)?;
            // These two are inherited by the connections.
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            // Also ends a connection whose client acknowledges, but reads nothing.
            socket.set_tcp_user_timeout(Some(limits.unread))?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        };
        sockets.into_iter().map(listen).collect::<io::Result<_>>().map_err(|source| BindError {
            server,
            port,
            source,
        })
    }
}

fn bind_all_interfaces(port: u16) -> io::Result<(u16, Vec<Socket>)> {
    let socket = match bind((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if is_missing_family(&error) => bind((Ipv4Addr::UNSPECIFIED, port).into())?,
        other => other?,
    };
    Ok((local_port(&socket)?, vec![socket]))
}

fn bind_internal(port: u16, addresses: &[IpAddr]) -> io::Result<(u16, Vec<Socket>)> {
    let mut tries = 1..=FREE_PORT_TRIES;
    loop {
        match bind_each(port, addresses) {
            // The port that was free on one address is taken on the other.
            Err(error)
                if port == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tries.next().is_some() => {}
            result => return result,
        }
    }
}

fn bind_each(mut port: u16, addresses: &[IpAddr]) -> io::Result<(u16, Vec<Socket>)> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for address in addresses {
        match bind(SocketAddr::new(*address, port)) {
            Ok(socket) => {
                port = local_port(&socket)?;
                sockets.push(socket);
            }
            // Only what nobody asked for may be missing.
            Err(error) if is_missing_family(&error) && is_usual_loopback(*address) => {
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok((port, sockets)),
    }
}

/// Binds one socket without listening.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let SocketAddr::V6(v6) = address {
        // Not left to the system's default: the external server wants both families.
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    match socket.bind(&address.into()) {
        // The first try is without SO_REUSEADDR, because two sockets that have it and do not
        // listen yet may share a port. Connections of a predecessor that are closed but still
        // remembered forbid such a bind; with the flag only sockets in use do.
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

/// The host has no IPv6 (or no IPv4), or has it without this address.
fn is_missing_family(error: &io::Error) -> bool {
    use nix::libc::{EAFNOSUPPORT, EPROTONOSUPPORT};
    error.kind() == io::ErrorKind::AddrNotAvailable
        || matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EPROTONOSUPPORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener as StdListener, TcpStream};

    fn error(external_port: u16, internal_port: u16) -> String {
        reserve(external_port, internal_port, None).unwrap_err().to_string()
    }

    #[test]
    fn reserved_ports_refuse_clients_and_other_owners() {
        let reserved = reserve(0, 0, None).unwrap();
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
        reserve(external, internal, None).unwrap();
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
        let port = reserve(0, 0, None).unwrap().external_port();
        assert!(error(port, port).contains("internal"));
    }

    /// A port whose last connection is in TIME_WAIT.
    fn port_of_closed_connection() -> u16 {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first is the one that remembers.
        drop(server);
        drop(client);
        port
    }

    #[test]
    fn ports_of_closed_connections_are_free() {
        reserve(port_of_closed_connection(), port_of_closed_connection(), None).unwrap();
    }

    /// The one case in which two processes can reserve the same port: the slower one learns it
    /// when it opens the port, with the same error.
    #[tokio::test]
    async fn a_port_reserved_twice_opens_once() {
        let port = port_of_closed_connection();
        let first = reserve(port, 0, None).unwrap();
        let Ok(second) = reserve(port, 0, None) else { return };
        let _listening = first.external.listen(&HttpLimits::default()).unwrap();
        let text = second.external.listen(&HttpLimits::default()).unwrap_err().to_string();
        assert!(text.contains(&format!("external HTTP server cannot use port {port}")), "{text}");
        assert!(text.contains("--external-http-port"), "{text}");
    }
}
