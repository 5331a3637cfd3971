//! Which pageservers to ask for the base backup and how to log in there (06 §2.4, §3.1, §5.2).
//!
//! `prefer_protocol` alone decides whether that is done over libpq or gRPC; the other URL is not
//! even looked at.
//!
//! The first pageserver of shard 0 is asked first; retries go round the others of that shard, if
//! the spec names any (06 W6).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use tokio_postgres::config::{Config, Host, SslMode};
use tonic::metadata::AsciiMetadataValue;

use super::errors::FetchError;
use crate::spec::grpc_url::GrpcAddress;
use crate::spec::pageserver::{PageserverConnectionInfo, PageserverProtocol};
use crate::spec::{ComputeMode, ParsedSpec, ShardIndex};
use crate::telemetry::secret::Secret;

/// The pageservers of shard 0, never empty.
#[derive(Debug, Clone)]
pub struct PageserverTarget {
    first: Endpoint,
    others: Vec<Endpoint>,
}

/// One pageserver, over the protocol that the spec prefers.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    Libpq(LibpqEndpoint),
    Grpc(GrpcEndpoint),
}

/// One pageserver over libpq: addresses and what goes into the startup packet.
#[derive(Debug, Clone)]
pub(super) struct LibpqEndpoint {
    pub addresses: Vec<Address>,
    pub connect_timeout: Option<Duration>,
    pub user: String,
    pub database: Option<String>,
    pub options: String,
    pub password: Option<Secret<Vec<u8>>>,
}

/// One pageserver over gRPC: where it is and what goes into the metadata of each call.
#[derive(Debug, Clone)]
pub(super) struct GrpcEndpoint {
    pub address: GrpcAddress,
    pub shard: ShardIndex,
    /// `Bearer` and the token.
    pub authorization: Option<Secret<AsciiMetadataValue>>,
}

/// Where a socket can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Name(String, u16),
    Ip(IpAddr, u16),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => write!(f, "{host}:{port}"),
            Self::Ip(ip, port) => std::net::SocketAddr::new(*ip, *port).fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl PageserverTarget {
    /// Takes the pageservers of shard 0 from a spec. Fails with a permanent [`FetchError`].
    pub fn from_spec(spec: &ParsedSpec) -> Result<Self, FetchError> {
        Self::new(&spec.pageserver, spec.storage_token(), spec.mode())
    }

    /// As [`Self::from_spec`], from the parts. The token overrides passwords in the URLs.
    pub fn new(
        info: &PageserverConnectionInfo,
        token: Option<&Secret<String>>,
        mode: ComputeMode,
    ) -> Result<Self, FetchError> {
        let shard = ShardIndex { number: 0, count: info.shard_count };
        let pageservers = &info.shards.get(&shard).ok_or(FetchError::NoShard(shard))?.pageservers;
        if pageservers.is_empty() {
            return Err(FetchError::NoPageserver);
        }
        let mut endpoints =
            pageservers.iter().filter_map(|pageserver| match info.prefer_protocol {
                PageserverProtocol::Libpq => pageserver
                    .libpq_url
                    .as_ref()
                    .map(|url| LibpqEndpoint::parse(url, token, mode, shard).map(Endpoint::Libpq)),
                PageserverProtocol::Grpc => pageserver
                    .grpc_url
                    .as_ref()
                    .map(|url| GrpcEndpoint::parse(url, token, shard).map(Endpoint::Grpc)),
            });
        let first = endpoints.next().ok_or(match info.prefer_protocol {
            PageserverProtocol::Libpq => FetchError::NoLibpqUrl(shard),
            PageserverProtocol::Grpc => FetchError::NoGrpcUrl(shard),
        })??;
        Ok(Self { first, others: endpoints.collect::<Result<_, _>>()? })
    }

    /// How many pageservers the tries go round.
    pub fn pageservers(&self) -> u32 {
        u32::try_from(self.others.len().saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// Whom to ask in a try, counted from 0.
    pub(super) fn endpoint(&self, attempt: u32) -> &Endpoint {
        let count = self.others.len().saturating_add(1);
        let turn = usize::try_from(attempt).unwrap_or_default() % count;
        turn.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }
}

impl GrpcEndpoint {
    /// The token is the only way to log in; what the URL says about a user is not sent.
    pub(super) fn parse(
        url: &Secret<String>,
        token: Option<&Secret<String>>,
        shard: ShardIndex,
    ) -> Result<Self, FetchError> {
        let address =
            url.expose().parse().map_err(|reason| FetchError::BadGrpcUrl { shard, reason })?;
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| FetchError::BadToken)?;
                // Keeps it out of the tables that HPACK would remember it in, and of `Debug`.
                value.set_sensitive(true);
                Some(Secret::new(value))
            }
        };
        Ok(Self { address, shard, authorization })
    }
}

impl LibpqEndpoint {
    fn parse(
        url: &Secret<String>,
        token: Option<&Secret<String>>,
        mode: ComputeMode,
        shard: ShardIndex,
    ) -> Result<Self, FetchError> {
        let bad = |reason: &str| {
            let reason = reason.to_owned();
            FetchError::BadConnectionString { shard, reason }
        };
        let config: Config =
            url.expose().parse().map_err(|error| bad(&super::errors::chain(&error)))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(bad("it demands TLS, which this version does not speak"));
        }
        let password = match token {
            Some(token) => Some(token.expose().as_bytes().to_vec()),
            None => config.get_password().map(<[u8]>::to_vec),
        };
        Ok(Self {
            addresses: addresses(&config).map_err(bad)?,
            connect_timeout: config.get_connect_timeout().copied().filter(|t| !t.is_zero()),
            user: config.get_user().map_or_else(os_user, str::to_owned),
            database: config.get_dbname().map(str::to_owned),
            options: format!("-c neon.compute_mode={mode}"),
            password: password.map(Secret::new),
        })
    }
}

/// Pairs hosts, numeric addresses and ports as libpq does.
pub(super) fn addresses(config: &Config) -> Result<Vec<Address>, &'static str> {
    let (hosts, ips, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(ips.len());
    if count == 0 {
        return Err("it names no host");
    }
    if !hosts.is_empty() && !ips.is_empty() && hosts.len() != ips.len() {
        return Err("it has different numbers of hosts and host addresses");
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("it has different numbers of hosts and ports");
    }
    let address = |at: usize| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match (ips.get(at), hosts.get(at)) {
            (Some(ip), _) => Some(Address::Ip(*ip, port)),
            (None, Some(Host::Tcp(name))) => Some(Address::Name(name.clone(), port)),
            (None, Some(Host::Unix(folder))) => {
                Some(Address::Unix(folder.join(format!(".s.PGSQL.{port}"))))
            }
            (None, None) => None,
        }
    };
    Ok((0..count).filter_map(address).collect())
}

/// What libpq sends without a user: the name of the OS user. One without a name (a container with
/// an arbitrary uid) uses the name that storage uses for "nobody in particular".
pub(super) fn os_user() -> String {
    match User::from_uid(geteuid()) {
        Ok(Some(user)) => user.name,
        _ => "no_user".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Lsn;
    use crate::spec::pageserver::{Pageserver, Shard};

    fn target(urls: &[&str], token: Option<&str>) -> Result<PageserverTarget, FetchError> {
        let pageservers = urls
            .iter()
            .map(|url| Pageserver {
                id: None,
                libpq_url: (!url.is_empty()).then(|| Secret::new((*url).to_owned())),
                grpc_url: None,
            })
            .collect();
        let info = PageserverConnectionInfo {
            shard_count: 0,
            stripe_size: None,
            shards: [("0000".parse().unwrap(), Shard { pageservers })].into(),
            prefer_protocol: PageserverProtocol::Libpq,
        };
        let token = token.map(|token| Secret::new(token.to_owned()));
        PageserverTarget::new(&info, token.as_ref(), ComputeMode::Static(Lsn(1)))
    }

    fn libpq(endpoint: &Endpoint) -> LibpqEndpoint {
        match endpoint {
            Endpoint::Libpq(endpoint) => endpoint.clone(),
            Endpoint::Grpc(endpoint) => panic!("{endpoint:?}"),
        }
    }

    #[test]
    fn urls_and_keyword_strings() {
        let endpoint = target(&["postgresql://no_user:old@ps-1:6400"], Some("new")).unwrap().first;
        let endpoint = libpq(&endpoint);
        assert_eq!(endpoint.addresses, [Address::Name("ps-1".to_owned(), 6400)]);
        assert_eq!(endpoint.user, "no_user");
        assert_eq!(endpoint.options, "-c neon.compute_mode=static");
        assert_eq!(endpoint.password.unwrap().expose(), b"new");

        let endpoint = target(&["host=127.0.0.1 port=6400 password=own"], None).unwrap().first;
        let endpoint = libpq(&endpoint);
        assert_eq!(endpoint.addresses[0].to_string(), "127.0.0.1:6400");
        assert_eq!(endpoint.password.unwrap().expose(), b"own");
        assert_eq!(endpoint.user, os_user());
    }

    #[test]
    fn tries_go_round_the_pageservers() {
        let target = target(&["host=a", "", "host=b"], None).unwrap();
        let asked: Vec<String> =
            (0..4).map(|n| libpq(target.endpoint(n)).addresses[0].to_string()).collect();
        assert_eq!(asked, ["a:5432", "b:5432", "a:5432", "b:5432"]);
    }

    #[test]
    fn refusals_name_the_shard_and_no_password() {
        for (urls, text) in [
            (&[][..], "must have at least one pageserver"),
            (&[""][..], "no libpq_url for shard 0000"),
            (&["user=x password=planted"][..], "it names no host"),
            (&["host=a sslmode=require password=planted"][..], "TLS"),
            (&["host=a,b,c port=1,2 password=planted"][..], "numbers of hosts and ports"),
        ] {
            let error = target(urls, None).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(!format!("{error} {error:?}").contains("planted"));
            assert_eq!(error.class(), super::super::errors::ErrorClass::Permanent);
        }
        assert!(!format!("{:?}", target(&["host=a password=planted"], None)).contains("planted"));
    }

    fn grpc(
        count: u8,
        urls: &[Option<&str>],
        token: Option<&str>,
    ) -> Result<PageserverTarget, FetchError> {
        let pageserver = |url: &Option<&str>| Pageserver {
            id: None,
            libpq_url: Some(Secret::new("host=never-asked".to_owned())),
            grpc_url: url.map(|url| Secret::new(url.to_owned())),
        };
        let pageservers = urls.iter().map(pageserver).collect();
        let shard = ShardIndex { number: 0, count };
        let info = PageserverConnectionInfo {
            shard_count: count,
            stripe_size: None,
            shards: [(shard, Shard { pageservers })].into(),
            prefer_protocol: PageserverProtocol::Grpc,
        };
        let token = token.map(|token| Secret::new(token.to_owned()));
        PageserverTarget::new(&info, token.as_ref(), ComputeMode::Primary)
    }

    #[test]
    fn grpc_urls_and_the_token() {
        let urls = [Some("grpc://no_user:planted@ps-1:51051"), None, Some("http://ps-2:1")];
        let target = grpc(2, &urls, Some("planted")).unwrap();
        assert_eq!(target.pageservers(), 2);
        assert!(!format!("{target:?}").contains("planted"), "{target:?}");
        let Endpoint::Grpc(first) = target.endpoint(2) else { panic!("{target:?}") };
        assert_eq!(
            (first.address.to_string(), first.shard.to_string()),
            ("ps-1:51051".into(), "0002".into())
        );
        assert_eq!(first.authorization.as_ref().unwrap().expose(), "Bearer planted");

        for (urls, token, text) in [
            (&[None][..], None, "no grpc_url for shard 0000"),
            (
                &[Some("https://u:planted@ps")],
                None,
                "the grpc_url of shard 0000 cannot be used: it demands TLS",
            ),
            (&[Some("grpc://ps:1")], Some("plan\nted"), "storage_auth_token has characters"),
        ] {
            let error = grpc(0, urls, token).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(!format!("{error} {error:?}").contains("planted"));
            assert_eq!(error.class(), super::super::errors::ErrorClass::Permanent);
        }
    }
}
