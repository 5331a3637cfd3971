//! `libpq_url` of a pageserver: a URL or a keyword string (06 §3.1).
//!
//! The acceptance of a spec, the basebackup and the leases all parse it here, so an accepted string
//! can be used.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::libpq_options::without_idle_options;
use crate::errors::one_line;

/// A pageserver that speaks libpq: at least one address, and the login parameters.
#[derive(Debug, Clone)]
pub struct LibpqAddress {
    config: Config,
    hosts: Vec<HostAddress>,
}

/// One address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAddress {
    /// A name and a port.
    Name(String, u16),
    /// An address and a port.
    Ip(IpAddr, u16),
    /// The path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => write!(f, "{host}:{port}"),
            Self::Ip(ip, port) => SocketAddr::new(*ip, *port).fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why a connection string cannot be used. The text does not repeat the string: it may hold a
/// password.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LibpqUrlError {
    /// The parser's error, with its causes.
    #[error("{0}")]
    Syntax(String),
    /// Tokens would be sent in clear text where encryption was asked for.
    #[error("it demands TLS, which this version does not speak")]
    Tls,
    /// Neither `host` nor `hostaddr`.
    #[error("it names no host")]
    NoHost,
    /// Hosts and host addresses are paired one by one.
    #[error("it has different numbers of hosts and host addresses")]
    HostAddresses,
    /// One port for all hosts, or one for each.
    #[error("it has different numbers of hosts and ports")]
    Ports,
}

impl FromStr for LibpqAddress {
    type Err = LibpqUrlError;

    fn from_str(text: &str) -> Result<Self, LibpqUrlError> {
        let config = match text.parse::<Config>() {
            Ok(config) => config,
            // libpq knows more options than the driver.
            Err(_) => without_idle_options(text)
                .ok_or(LibpqUrlError::Tls)?
                .parse()
                .map_err(|error| LibpqUrlError::Syntax(syntax(text, &error)))?,
        };
        if config.get_ssl_mode() == SslMode::Require {
            return Err(LibpqUrlError::Tls);
        }
        let hosts = hosts(&config)?;
        Ok(Self { config, hosts })
    }
}

/// The driver's error, with what it leaves out. For a text of another kind it is "unexpected EOF",
/// which does not help.
fn syntax(text: &str, error: &tokio_postgres::Error) -> String {
    let error = match text.split_once("://") {
        Some(("postgresql" | "postgres", _)) => return one_line(error),
        Some(_) => {
            return "it is a URL of another kind; a URL begins with postgresql://".to_owned();
        }
        None if text.contains('=') => one_line(error),
        None => "it is neither a URL nor a list of options".to_owned(),
    };
    format!("{error}; write it as postgresql://USER@HOST:PORT or host=HOST port=PORT")
}

impl LibpqAddress {
    /// The parsed connection string.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The addresses, in the order of trying.
    pub fn hosts(&self) -> &[HostAddress] {
        &self.hosts
    }
}

/// The first of its hosts: a name for the log.
impl fmt::Display for LibpqAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hosts.first().map_or(Ok(()), |host| host.fmt(f))
    }
}

/// Pairs hosts, numeric addresses and ports as libpq does.
fn hosts(config: &Config) -> Result<Vec<HostAddress>, LibpqUrlError> {
    let (hosts, ips, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(ips.len());
    if count == 0 {
        return Err(LibpqUrlError::NoHost);
    }
    if !hosts.is_empty() && !ips.is_empty() && hosts.len() != ips.len() {
        return Err(LibpqUrlError::HostAddresses);
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(LibpqUrlError::Ports);
    }
    let address = |at: usize| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match (ips.get(at), hosts.get(at)) {
            (Some(ip), _) => Some(HostAddress::Ip(*ip, port)),
            (None, Some(Host::Tcp(name))) => Some(HostAddress::Name(name.clone(), port)),
            (None, Some(Host::Unix(folder))) => {
                Some(HostAddress::Unix(folder.join(format!(".s.PGSQL.{port}"))))
            }
            (None, None) => None,
        }
    };
    Ok((0..count).filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, hosts) in [
            ("postgresql://no_user:planted@ps-1:6400", &["ps-1:6400"][..]),
            ("host=127.0.0.1 port=6400 password=planted", &["127.0.0.1:6400"]),
            ("host=a hostaddr=::1", &["[::1]:5432"]),
            ("postgres://u@a:1,b:2", &["a:1", "b:2"]),
            ("host=/run/ps port=7", &["/run/ps/.s.PGSQL.7"]),
            ("host=a port=7 gssencmode=disable sslcert='x y'", &["a:7"]),
            ("postgresql://no_user@a:7/?sslmode=allow&sslsni=0", &["a:7"]),
        ] {
            let address: LibpqAddress = text.parse().unwrap();
            let seen: Vec<String> = address.hosts().iter().map(ToString::to_string).collect();
            assert_eq!(seen, hosts, "{text}");
            assert_eq!(address.to_string(), hosts[0]);
            assert!(!format!("{address:?}").contains("planted"));
        }
        for (text, error) in [
            ("user=x password=planted", LibpqUrlError::NoHost),
            ("host=a sslmode=require password=planted", LibpqUrlError::Tls),
            ("postgresql://u:planted@a?sslmode=verify-full", LibpqUrlError::Tls),
            ("host=a,b,c port=1,2 password=planted", LibpqUrlError::Ports),
            ("host=a,b hostaddr=::1", LibpqUrlError::HostAddresses),
        ] {
            assert_eq!(text.parse::<LibpqAddress>().unwrap_err(), error, "{text}");
        }
        let error = "host=a port=planted".parse::<LibpqAddress>().unwrap_err().to_string();
        assert!(error.contains("invalid value for option `port`; write it as "), "{error}");
        let error = "http://u:planted@a".parse::<LibpqAddress>().unwrap_err().to_string();
        assert!(error.ends_with("kind; a URL begins with postgresql://"), "{error}");
        assert!(!error.contains("planted"), "{error}");
        let error = "planted:6400".parse::<LibpqAddress>().unwrap_err().to_string();
        assert!(error.starts_with("it is neither a URL nor a list of options; write "), "{error}");
    }
}
