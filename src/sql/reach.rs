//! Connects to the server in the same order as the client library: first the places of the URL,
//! then the addresses of each. Unlike the library it wraps the stream in a [`Wire`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use super::error::PgError;
use super::wire::Wire;

/// The port unless the URL says otherwise.
const PORT: u16 = 5432;

/// TCP or a socket in a folder.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A place of the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A host, or its address.
    Tcp(String, u16),
    /// A socket.
    Unix(PathBuf),
}

/// A resolved place.
#[derive(Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

fn places(config: &Config) -> Result<Vec<Place>, PgError> {
    let wrong = |what: &str| PgError::of_the_way(format!("invalid configuration: {what}"));
    let (hosts, addresses, ports) =
        (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(wrong("both host and hostaddr are missing"));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(wrong("the numbers of host and hostaddr differ"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(wrong("invalid number of ports"));
    }
    let place = |at: usize| {
        // One port stands for all hosts.
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        match (addresses.get(at), hosts.get(at)) {
            (Some(address), _) => Some(Place::Tcp(address.to_string(), port)),
            (None, Some(Host::Tcp(host))) => Some(Place::Tcp(host.clone(), port)),
            (None, Some(Host::Unix(folder))) => {
                Some(Place::Unix(folder.join(format!(".s.PGSQL.{port}"))))
            }
            (None, None) => None,
        }
    };
    Ok((0..count).filter_map(place).collect())
}

impl Place {
    async fn addresses(&self) -> io::Result<Vec<Address>> {
        Ok(match self {
            Self::Tcp(host, port) => {
                lookup_host((host.as_str(), *port)).await?.map(Address::Tcp).collect()
            }
            Self::Unix(path) => vec![Address::Unix(path.clone())],
        })
    }
}

impl Address {
    async fn stream(&self, config: &Config) -> io::Result<Box<dyn Stream>> {
        match config.get_connect_timeout() {
            Some(limit) => {
                let late = || io::Error::new(io::ErrorKind::TimedOut, "connection timed out");
                timeout(*limit, self.open(config)).await.map_err(|_| late())?
            }
            None => self.open(config).await,
        }
    }

    async fn open(&self, config: &Config) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                set_up(&stream, config)?;
                Ok(Box::new(stream))
            }
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

fn set_up(stream: &TcpStream, config: &Config) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(limit) = config.get_tcp_user_timeout() {
        socket.set_tcp_user_timeout(Some(*limit))?;
    }
    if config.get_keepalives() {
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

/// The text is that of the client library, which clients of the API know (03 §5.4).
fn unreachable(error: &io::Error, at: &impl fmt::Display) -> PgError {
    let error = PgError::of_the_way(format!("error connecting to server: {error}"));
    PgError { at: Some(at.to_string()), ..error }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The hosts and ports of a configuration, for error texts.
pub(super) fn shown_places(config: &Config) -> String {
    let places = places(config).unwrap_or_default();
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Connects to the first server that accepts us. `database` replaces the name in the
/// configuration. The task moves the bytes; it ends with the client.
pub(super) async fn connect(
    config: &Config,
    database: Option<Arc<[u8]>>,
) -> Result<(Client, AbortOnDropHandle<()>), PgError> {
    let mut places = places(config)?;
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        fastrand::shuffle(&mut places);
    }
    let nothing = io::Error::other("could not resolve any addresses");
    let mut refused = unreachable(&nothing, &shown_places(config));
    for place in places {
        let addresses = match place.addresses().await {
            Ok(addresses) => addresses,
            Err(error) => {
                refused = unreachable(&error, &place);
                continue;
            }
        };
        for address in addresses {
            match enter(&address, config, database.clone()).await {
                Ok(entered) => return Ok(entered),
                Err(error) => refused = error,
            }
        }
    }
    Err(refused)
}

async fn enter(
    address: &Address,
    config: &Config,
    database: Option<Arc<[u8]>>,
) -> Result<(Client, AbortOnDropHandle<()>), PgError> {
    let stream = address.stream(config).await.map_err(|error| unreachable(&error, address))?;
    let (client, connection) = config.connect_raw(Wire::new(stream, database), NoTls).await?;
    let connection = async move {
        // Each waiting caller gets the same error.
        if let Err(error) = connection.await {
            tracing::debug!("a session ended: {}", PgError::from(error));
        }
    };
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let unwanted = match config.get_target_session_attrs() {
        TargetSessionAttrs::ReadWrite => "on",
        TargetSessionAttrs::ReadOnly => "off",
        _ => return Ok((client, connection)),
    };
    let answers = client.simple_query("SHOW transaction_read_only").await?;
    let read_only = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
        _ => None,
    });
    if read_only == Some(unwanted) {
        let why = if unwanted == "on" {
            "database does not allow writes"
        } else {
            "database is not read only"
        };
        return Err(unreachable(&io::Error::other(why), address));
    }
    Ok((client, connection))
}

/// Streams to each server that a session of this configuration may be connected to.
pub(super) async fn all_streams(config: &Config) -> Vec<io::Result<Box<dyn Stream>>> {
    let places = match places(config) {
        Ok(places) => places,
        Err(error) => return vec![Err(io::Error::other(error))],
    };
    let mut streams = Vec::new();
    for place in places {
        match place.addresses().await {
            Ok(addresses) => {
                for address in addresses {
                    streams.push(address.stream(config).await);
                }
            }
            Err(error) => streams.push(Err(error)),
        }
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_of(url: &str) -> Result<Vec<Place>, String> {
        places(&url.parse().unwrap()).map_err(|error| error.text)
    }

    #[test]
    fn hosts_addresses_and_sockets() {
        let tcp = |host: &str, port| Place::Tcp(host.to_owned(), port);
        let socket = Place::Unix("/run/pg/.s.PGSQL.6".into());
        assert_eq!(places_of("postgresql://u@h/d"), Ok(vec![tcp("h", 5432)]));
        assert_eq!(places_of("postgresql://u@h1,h2:6/d"), Ok(vec![tcp("h1", 5432), tcp("h2", 6)]));
        assert_eq!(places_of("host=h1,h2 port=6"), Ok(vec![tcp("h1", 6), tcp("h2", 6)]));
        assert_eq!(socket.to_string(), "/run/pg/.s.PGSQL.6");
        assert_eq!(shown_places(&"host=h,::1 port=6".parse().unwrap()), "h:6, [::1]:6");
        assert_eq!(places_of("host=/run/pg port=6"), Ok(vec![socket]));
        assert_eq!(places_of("host=h hostaddr=::1"), Ok(vec![tcp("::1", 5432)]));
        assert_eq!(places_of("hostaddr=127.0.0.1 port=7"), Ok(vec![tcp("127.0.0.1", 7)]));
        for (config, error) in [
            ("user=u", "invalid configuration: both host and hostaddr are missing"),
            (
                "host=a,b hostaddr=::1",
                "invalid configuration: the numbers of host and hostaddr differ",
            ),
            ("host=a,b,c port=1,2", "invalid configuration: invalid number of ports"),
        ] {
            assert_eq!(places_of(config).unwrap_err(), error);
        }
    }

    #[tokio::test]
    async fn a_connection_gets_the_settings_of_the_url() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let url = "host=h tcp_user_timeout=7 keepalives_idle=11 keepalives_interval=13 keepalives_retries=17";
        set_up(&stream, &url.parse().unwrap()).unwrap();
        let socket = SockRef::from(&stream);
        let seconds = |seconds| std::time::Duration::from_secs(seconds);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(7)));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(11));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(13));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 17);
    }

    /// The error is that of the place that was tried last.
    #[tokio::test]
    async fn places_are_tried_in_their_order_unless_they_share_the_load() {
        let last = async |more: &str| {
            let hosts = (0..10).map(|n| format!("/no/such/{n}")).collect::<Vec<_>>().join(",");
            let config = format!("host={hosts} user=u {more}").parse().unwrap();
            connect(&config, None).await.unwrap_err().at.unwrap()
        };
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            assert_eq!(last("").await, "/no/such/9/.s.PGSQL.5432");
            seen.insert(last("load_balance_hosts=random").await);
        }
        assert!(seen.len() > 1, "{seen:?}");
    }
}
