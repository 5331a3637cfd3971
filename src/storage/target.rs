//! Which pageservers to ask for the base backup and how to log in there (06 §2.4, §3.1, §5.2).
//!
//! `prefer_protocol` alone decides between libpq and gRPC; the URL of the other protocol is not
//! read.
//!
//! The first pageserver of shard 0 is asked first; retries rotate through the others of that shard,
//! if the spec names any (06 W6). An invalid entry among the others does not prevent the start.

use std::time::Duration;

use nix::unistd::{User, geteuid};
use tokio_postgres::Config;
use tonic::metadata::AsciiMetadataValue;

use super::errors::FetchError;
use crate::secret::Secret;
use crate::spec::grpc_url::GrpcAddress;
use crate::spec::libpq_url::{HostAddress, LibpqAddress};
use crate::spec::pageserver::{PageserverAddress, PageserverConnectionInfo};
use crate::spec::{ComputeMode, ParsedSpec, ShardIndex};

/// Silence before a ping of TCP or HTTP/2; also the limit for the answer to the ping.
pub(super) const PING_AFTER: Duration = Duration::from_secs(15);
pub(super) const PING_LIMIT: Duration = Duration::from_secs(15);

/// The pageservers of shard 0, never empty.
#[derive(Debug, Clone)]
pub(crate) struct PageserverTarget {
    first: Endpoint,
    others: Vec<Endpoint>,
}

/// One pageserver, over the protocol that the spec prefers.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    Libpq(LibpqEndpoint),
    Grpc(GrpcEndpoint),
}

/// One pageserver over libpq: its addresses and the startup parameters.
#[derive(Debug, Clone)]
pub(super) struct LibpqEndpoint {
    pub addresses: Vec<HostAddress>,
    pub connect_timeout: Option<Duration>,
    pub user: String,
    pub database: Option<String>,
    pub options: String,
    pub password: Option<Secret<Vec<u8>>>,
}

/// One pageserver over gRPC: its address and the metadata of each call.
#[derive(Debug, Clone)]
pub(super) struct GrpcEndpoint {
    pub address: GrpcAddress,
    pub shard: ShardIndex,
    /// `Bearer` followed by the token.
    pub authorization: Option<Secret<AsciiMetadataValue>>,
}

impl PageserverTarget {
    /// Takes the pageservers of shard 0 from a spec. Fails with a local [`FetchError`] if the first
    /// one cannot be used; others that cannot are left out, with a warning.
    pub(crate) fn from_spec(spec: &ParsedSpec) -> Result<Self, FetchError> {
        Self::new(&spec.pageserver, spec.storage_token(), spec.mode())
    }

    /// As [`Self::from_spec`], from the parts. The token overrides passwords in the URLs.
    pub(crate) fn new(
        info: &PageserverConnectionInfo,
        token: Option<&Secret<String>>,
        mode: ComputeMode,
    ) -> Result<Self, FetchError> {
        let shard = ShardIndex { number: 0, count: info.shard_count };
        let pageservers = &info.shards.get(&shard).ok_or(FetchError::NoShard(shard))?.pageservers;
        let mut endpoints = pageservers.iter().map(|pageserver| {
            Ok(match pageserver.address(info.prefer_protocol, shard)? {
                PageserverAddress::Libpq(address) => {
                    Endpoint::Libpq(LibpqEndpoint::new(&address, token, mode))
                }
                PageserverAddress::Grpc(address) => {
                    Endpoint::Grpc(GrpcEndpoint::new(address, token, shard)?)
                }
            })
        });
        let first: Result<_, FetchError> = endpoints.next().ok_or(FetchError::NoPageserver)?;
        let first = first?;
        let others = endpoints.filter_map(|spare| {
            spare
                .inspect_err(|error| tracing::warn!("a spare pageserver is left out: {error}"))
                .ok()
        });
        Ok(Self { first, others: others.collect() })
    }

    /// Number of pageservers that the tries rotate through.
    pub(crate) fn pageservers(&self) -> u32 {
        u32::try_from(self.others.len().saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// The pageserver with this number, from 0; the first if the number is too large.
    pub(super) fn endpoint(&self, number: u32) -> &Endpoint {
        let number = usize::try_from(number).unwrap_or_default();
        number.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }
}

impl Endpoint {
    /// `host:port`, of each address.
    pub(super) fn peer(&self) -> String {
        match self {
            Self::Libpq(endpoint) => {
                let addresses = endpoint.addresses.iter().map(ToString::to_string);
                addresses.collect::<Vec<_>>().join(", ")
            }
            Self::Grpc(endpoint) => endpoint.address.to_string(),
        }
    }
}

impl GrpcEndpoint {
    /// Authenticates with the token only; a user in the URL is not sent.
    pub(super) fn new(
        address: GrpcAddress,
        token: Option<&Secret<String>>,
        shard: ShardIndex,
    ) -> Result<Self, FetchError> {
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| FetchError::BadToken)?;
                // Keeps the token out of HPACK's tables and of `Debug` output.
                value.set_sensitive(true);
                Some(Secret::new(value))
            }
        };
        Ok(Self { address, shard, authorization })
    }
}

impl LibpqEndpoint {
    fn new(address: &LibpqAddress, token: Option<&Secret<String>>, mode: ComputeMode) -> Self {
        let config = login(address, token);
        Self {
            addresses: address.hosts().to_vec(),
            connect_timeout: config.get_connect_timeout().copied().filter(|t| !t.is_zero()),
            user: config.get_user().unwrap_or_default().to_owned(),
            database: config.get_dbname().map(str::to_owned),
            options: format!("-c neon.compute_mode={mode}"),
            password: config.get_password().map(|password| Secret::new(password.to_vec())),
        }
    }
}

/// The configuration in a connection string, with a user if it names none, and with the token,
/// which outranks its password (06 §3.1).
pub(super) fn login(address: &LibpqAddress, token: Option<&Secret<String>>) -> Config {
    let mut config = address.config().clone();
    if config.get_user().is_none() {
        config.user(os_user());
    }
    if let Some(token) = token {
        config.password(token.expose());
    }
    config
}

/// The user that libpq sends by default: the name of the OS user. A uid without a name (a container
/// with an arbitrary uid) gets the name that storage uses for an unspecified user.
fn os_user() -> String {
    match User::from_uid(geteuid()) {
        Ok(Some(user)) => user.name,
        _ => "no_user".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Lsn;
    use crate::spec::pageserver::{Pageserver, PageserverProtocol, Shard};

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
        assert_eq!(endpoint.addresses, [HostAddress::Name("ps-1".to_owned(), 6400)]);
        assert_eq!(endpoint.user, "no_user");
        assert_eq!(endpoint.options, "-c neon.compute_mode=static");
        assert_eq!(endpoint.password.unwrap().expose(), b"new");

        let endpoint = target(&["host=127.0.0.1 port=6400 password=own"], None).unwrap().first;
        let endpoint = libpq(&endpoint);
        assert_eq!(endpoint.addresses[0].to_string(), "127.0.0.1:6400");
        assert_eq!(endpoint.password.unwrap().expose(), b"own");
        assert_eq!(endpoint.user, os_user());
    }

    /// Covers spares without a URL, with an unusable one, and with a usable one.
    #[test]
    fn spares_that_cannot_be_used_are_left_out() {
        let urls = ["host=a", "", "host=b sslmode=require", "port=x", "host=c"];
        let target = target(&urls, None).unwrap();
        assert_eq!(target.pageservers(), 2);
        let all = [0, 1].map(|n| libpq(target.endpoint(n)).addresses[0].to_string());
        assert_eq!(all, ["a:5432", "c:5432"]);
    }

    #[test]
    fn refusals_name_the_shard_and_no_password() {
        for (urls, text) in [
            (&[][..], "must have at least one pageserver"),
            (&["", "host=b"][..], "no libpq_url for shard 0000"),
            (&["port=x", "host=b"][..], "invalid value for option `port`"),
            (&["user=x password=planted"][..], "it names no host"),
            (&["host=a sslmode=require password=planted"][..], "TLS"),
            (&["host=a,b,c port=1,2 password=planted"][..], "numbers of hosts and ports"),
        ] {
            let error = target(urls, None).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(!format!("{error} {error:?}").contains("planted"));
            assert_eq!(error.class(), super::super::errors::ErrorClass::Local);
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
        let urls = [
            Some("grpc://no_user:planted@ps-1:51051"),
            None,
            Some("https://ps-3"),
            Some("http://ps-2:1"),
        ];
        let target = grpc(2, &urls, Some("planted")).unwrap();
        assert_eq!(target.pageservers(), 2);
        assert!(!format!("{target:?}").contains("planted"), "{target:?}");
        let Endpoint::Grpc(first) = target.endpoint(0) else { panic!("{target:?}") };
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
            assert_eq!(error.class(), super::super::errors::ErrorClass::Local);
        }
    }
}
