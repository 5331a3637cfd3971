//! Where the pageservers are: one form for all three spellings of the spec (02 §7.2, 06 §2).

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::grpc_url::{GrpcAddress, GrpcUrlError};
use super::ids::ShardIndex;
use super::libpq_url::{LibpqAddress, LibpqUrlError};
use crate::secret::Secret;

/// `pageserver_connection_info` of the spec, or what the older members were converted to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct PageserverConnectionInfo {
    /// 0 for an unsharded tenant.
    pub shard_count: u8,
    /// Pages of 8 KiB; absent for an unsharded tenant.
    pub stripe_size: Option<u32>,
    /// All shards by index.
    #[schema(value_type = BTreeMap<String, Shard>)]
    pub shards: BTreeMap<ShardIndex, Shard>,
    /// Decides alone which protocol is used.
    #[serde(default)]
    pub prefer_protocol: PageserverProtocol,
}

/// The pageservers of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Shard {
    /// The base backup comes from the first of shard 0 that can serve it; leases go to all.
    pub pageservers: Vec<Pageserver>,
}

/// One pageserver of a shard. The URLs may carry passwords.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Pageserver {
    /// Not used.
    pub id: Option<u64>,
    /// URL or keyword string.
    #[schema(value_type = Option<String>)]
    pub libpq_url: Option<Secret<String>>,
    /// `grpc://host:port`.
    #[schema(value_type = Option<String>)]
    pub grpc_url: Option<Secret<String>>,
}

/// Protocol towards the pageservers (02 §6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PageserverProtocol {
    /// Postgres protocol.
    #[default]
    Libpq,
    /// gRPC.
    Grpc,
}

/// Address of a pageserver for one of the protocols.
#[derive(Debug, Clone)]
pub enum PageserverAddress {
    /// From `libpq_url`.
    Libpq(Box<LibpqAddress>),
    /// From `grpc_url`.
    Grpc(GrpcAddress),
}

/// Why pageserver information cannot be used. The texts are those of 02 §7.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PageserverInfoError {
    /// Several connection strings need a stripe size.
    #[error("{0} shards but no stripe_size")]
    NoStripeSize(usize),
    /// The shard count is a byte.
    #[error("{0} pageserver connection strings, at most 255 shards are possible")]
    TooManyShards(usize),
    /// The map has no entry for a shard that the count promises.
    #[error("shard {0} missing from pageserver_connection_info shard map")]
    ShardMissing(ShardIndex),
    /// A shard with an empty list.
    #[error("shard {0} in pageserver_connection_info must have at least one pageserver")]
    NoPageserver(ShardIndex),
    /// The preferred protocol is libpq and the shard has no such URL.
    #[error("no libpq_url for shard {0}")]
    NoLibpqUrl(ShardIndex),
    /// The preferred protocol is gRPC and the shard has no such URL.
    #[error("no grpc_url for shard {0}")]
    NoGrpcUrl(ShardIndex),
    /// The preferred protocol is libpq, and the URL or keyword string for it cannot be used.
    #[error("the libpq connection string of shard {shard} cannot be used: {reason}")]
    BadConnectionString {
        /// The shard it belongs to.
        shard: ShardIndex,
        /// What is wrong; it does not repeat the string.
        reason: LibpqUrlError,
    },
    /// The preferred protocol is gRPC, and the URL for it cannot be used.
    #[error("the grpc_url of shard {shard} cannot be used: {reason}")]
    BadGrpcUrl {
        /// The shard it belongs to.
        shard: ShardIndex,
        /// What is wrong.
        reason: GrpcUrlError,
    },
}

impl Pageserver {
    /// The address for `protocol`. The URL for the other protocol is not checked. `shard` is for
    /// the error.
    pub fn address(
        &self,
        protocol: PageserverProtocol,
        shard: ShardIndex,
    ) -> Result<PageserverAddress, PageserverInfoError> {
        match protocol {
            PageserverProtocol::Libpq => {
                let url = self.libpq_url.as_ref().ok_or(PageserverInfoError::NoLibpqUrl(shard))?;
                let address = url.expose().parse().map(Box::new).map(PageserverAddress::Libpq);
                address.map_err(|reason| PageserverInfoError::BadConnectionString { shard, reason })
            }
            PageserverProtocol::Grpc => {
                let url = self.grpc_url.as_ref().ok_or(PageserverInfoError::NoGrpcUrl(shard))?;
                let address = url.expose().parse().map(PageserverAddress::Grpc);
                address.map_err(|reason| PageserverInfoError::BadGrpcUrl { shard, reason })
            }
        }
    }
}

impl PageserverConnectionInfo {
    /// Converts connection strings joined by commas (02 §7.2 forms 2 and 3, 06 §2.3). One piece is
    /// an unsharded tenant, whose stripe size is dropped.
    pub fn from_connstring(
        connstring: &str,
        stripe_size: Option<u32>,
    ) -> Result<Self, PageserverInfoError> {
        let pieces: Vec<&str> = connstring.split(',').collect();
        let (shard_count, stripe_size) = match pieces.len() {
            1 => (0, None),
            n => {
                let count = u8::try_from(n).map_err(|_| PageserverInfoError::TooManyShards(n))?;
                (count, Some(stripe_size.ok_or(PageserverInfoError::NoStripeSize(n))?))
            }
        };
        let shards = (0u8..=u8::MAX).zip(pieces).map(|(number, piece)| {
            let url = Some(Secret::new(piece.to_owned()));
            let pageservers = vec![Pageserver { id: None, libpq_url: url, grpc_url: None }];
            (ShardIndex { number, count: shard_count }, Shard { pageservers })
        });
        Ok(Self {
            shard_count,
            stripe_size,
            shards: shards.collect(),
            prefer_protocol: PageserverProtocol::Libpq,
        })
    }

    /// Indexes of all shards, in order.
    pub fn indexes(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        let count = self.shard_count;
        (0..count.max(1)).map(move |number| ShardIndex { number, count })
    }

    /// The pageserver that is used for a shard: the first of its list.
    pub fn first_pageserver(&self, index: ShardIndex) -> Result<&Pageserver, PageserverInfoError> {
        let shard = self.shards.get(&index).ok_or(PageserverInfoError::ShardMissing(index))?;
        shard.pageservers.first().ok_or(PageserverInfoError::NoPageserver(index))
    }

    /// Checks everything that the original notices only while it starts (02 W3, W4): every shard is
    /// present and has a pageserver with a usable URL for the preferred protocol.
    pub fn validate(&self) -> Result<(), PageserverInfoError> {
        for index in self.indexes() {
            self.first_pageserver(index)?.address(self.prefer_protocol, index)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(info: &PageserverConnectionInfo) -> Vec<(String, String)> {
        let url = |shard: &Shard| shard.pageservers[0].libpq_url.clone().unwrap().expose().clone();
        info.shards.iter().map(|(index, shard)| (index.to_string(), url(shard))).collect()
    }

    #[test]
    fn one_piece_is_an_unsharded_tenant() {
        let info = PageserverConnectionInfo::from_connstring("host=a port=6400", Some(8)).unwrap();
        assert_eq!((info.shard_count, info.stripe_size), (0, None));
        assert_eq!(urls(&info), [("0000".to_owned(), "host=a port=6400".to_owned())]);
        info.validate().unwrap();
    }

    #[test]
    fn several_pieces_are_shards_in_order() {
        let text = "postgres://no_user@a:1,postgres://no_user@b:2";
        let info = PageserverConnectionInfo::from_connstring(text, Some(2048)).unwrap();
        assert_eq!((info.shard_count, info.stripe_size), (2, Some(2048)));
        assert_eq!(
            urls(&info),
            [
                ("0002".to_owned(), "postgres://no_user@a:1".to_owned()),
                ("0102".to_owned(), "postgres://no_user@b:2".to_owned())
            ]
        );
        let error = PageserverConnectionInfo::from_connstring(text, None).unwrap_err();
        assert_eq!(error.to_string(), "2 shards but no stripe_size");
    }

    #[test]
    fn at_most_255_shards() {
        let pieces = |n: usize| vec!["host=a"; n].join(",");
        let info = PageserverConnectionInfo::from_connstring(&pieces(255), Some(1)).unwrap();
        assert_eq!(info.shards.len(), 255);
        info.validate().unwrap();
        assert_eq!(
            PageserverConnectionInfo::from_connstring(&pieces(256), Some(1)),
            Err(PageserverInfoError::TooManyShards(256))
        );
    }

    #[test]
    fn gaps_are_found_before_the_spec_is_accepted() {
        let parse = |text: &str| serde_json::from_str::<PageserverConnectionInfo>(text).unwrap();
        for (json, text) in [
            (r#"{"shard_count":0,"shards":{}}"#, "shard 0000 missing"),
            (
                r#"{"shard_count":0,"shards":{"0000":{"pageservers":[]}}}"#,
                "at least one pageserver",
            ),
            (
                r#"{"shard_count":0,"shards":{"0000":{"pageservers":[{}]}}}"#,
                "no libpq_url for shard 0000",
            ),
            (
                r#"{"shard_count":2,"prefer_protocol":"grpc","shards":{"0002":{"pageservers":[{"grpc_url":"grpc://a"}]},"0102":{"pageservers":[{}]}}}"#,
                "no grpc_url for shard 0102",
            ),
            (
                r#"{"shard_count":0,"shards":{"0000":{"pageservers":[{"libpq_url":"port=x"}]}}}"#,
                "the libpq connection string of shard 0000 cannot be used: invalid connection string: \
                 invalid value for option `port`",
            ),
            (
                r#"{"shard_count":0,"shards":{"0000":{"pageservers":[{"libpq_url":"host=a sslmode=require"}]}}}"#,
                "the libpq connection string of shard 0000 cannot be used: it demands TLS",
            ),
            (
                r#"{"shard_count":0,"shards":{"0000":{"pageservers":[{"libpq_url":"user=a"}]}}}"#,
                "it names no host",
            ),
            (
                r#"{"shard_count":0,"prefer_protocol":"grpc","shards":{"0000":{"pageservers":[{"grpc_url":"https://a"}]}}}"#,
                "the grpc_url of shard 0000 cannot be used: it demands TLS",
            ),
        ] {
            let error = parse(json).validate().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    /// Only the URL for the preferred protocol is used.
    #[test]
    fn the_other_url_may_be_anything() {
        for (protocol, unused) in [("libpq", "grpc_url"), ("grpc", "libpq_url")] {
            let json = format!(
                r#"{{"shard_count":0,"prefer_protocol":"{protocol}","shards":{{"0000":{{
                    "pageservers":[{{"{protocol}_url":"{}","{unused}":"port=x"}}]}}}}}}"#,
                if protocol == "libpq" { "host=a" } else { "grpc://a:1" }
            );
            let info: PageserverConnectionInfo = serde_json::from_str(&json).unwrap();
            assert_eq!(info.validate(), Ok(()), "{json}");
        }
    }
}
