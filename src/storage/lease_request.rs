//! One request for a lease, to one pageserver (06 §6.2).

use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::time::timeout;
use tonic::Code;

use super::errors::FetchError;
use super::grpc::GrpcConnection;
use super::simple_query;
use super::target::{GrpcEndpoint, login};
use crate::errors::one_line;
use crate::secret::Secret;
use crate::spec::grpc_url::GrpcAddress;
use crate::spec::libpq_url::LibpqAddress;
use crate::spec::pageserver::{Pageserver, PageserverAddress, PageserverProtocol};
use crate::spec::{Lsn, ShardIndex, TenantId, TimelineId};
use crate::telemetry::traces;

/// Column of the answer over libpq.
const VALID_UNTIL: &str = "valid_until";

/// The LSN to keep from garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeasedLsn {
    pub tenant_id: TenantId,
    pub timeline_id: TimelineId,
    pub lsn: Lsn,
}

/// The pageserver to ask, and for which shard.
#[derive(Debug, Clone)]
pub(super) struct LeasePageserver {
    pub shard: ShardIndex,
    pub pageserver: Pageserver,
    pub protocol: PageserverProtocol,
}

/// A valid answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// Granted until this time, which may be in the past.
    Until(SystemTime),
    /// The LSN is garbage-collected or about to be.
    Refused,
}

/// Why no valid answer came. All of these may be transient (06 W8).
#[derive(Debug, Error)]
pub(super) enum LeaseError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Libpq(String),
    #[error("error parsing lsn lease response: {0}")]
    Answer(&'static str),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl LeasePageserver {
    /// `host:port` for the log.
    pub(super) fn name(&self) -> String {
        match self.address() {
            Ok(PageserverAddress::Libpq(address)) => address.to_string(),
            Ok(PageserverAddress::Grpc(address)) => address.to_string(),
            Err(_) => "a pageserver without usable URL".to_owned(),
        }
    }

    fn address(&self) -> Result<PageserverAddress, FetchError> {
        Ok(self.pageserver.address(self.protocol, self.shard)?)
    }

    /// Asks over a new connection. `limit` covers connecting and answering.
    pub(super) async fn ask(
        &self,
        pin: LeasedLsn,
        token: Option<&Secret<String>>,
        limit: Duration,
    ) -> Result<Lease, LeaseError> {
        let answer = async {
            match self.address()? {
                PageserverAddress::Libpq(address) => self.ask_libpq(&address, pin, token).await,
                PageserverAddress::Grpc(address) => self.ask_grpc(address, pin, token, limit).await,
            }
        };
        let span = traces::client_span("pageserver lease_lsn");
        span.set("server.address", self.name());
        span.set("neon.lsn", pin.lsn);
        let answer = timeout(limit, span.scope(answer)).await;
        let answer = answer.unwrap_or(Err(LeaseError::Timeout(limit)));
        if let Err(error) = &answer {
            span.fail(error);
        }
        answer
    }

    async fn ask_libpq(
        &self,
        address: &LibpqAddress,
        pin: LeasedLsn,
        token: Option<&Secret<String>>,
    ) -> Result<Lease, LeaseError> {
        let row = simple_query::first_row(&login(address, token), &self.command(pin))
            .await
            .map_err(|error| LeaseError::Libpq(one_line(&error)))?
            .ok_or(LeaseError::Answer("there is no row"))?;
        match row.try_get(VALID_UNTIL) {
            Ok(Some(text)) => until(text).map(Lease::Until),
            Ok(None) => Ok(Lease::Refused),
            Err(_) => Err(LeaseError::Answer("there is no column valid_until")),
        }
    }

    /// The tenant id includes the shard, unlike that of a base backup.
    fn command(&self, pin: LeasedLsn) -> String {
        let LeasedLsn { tenant_id, timeline_id, lsn } = pin;
        match self.shard.count {
            0 => format!("lease lsn {tenant_id} {timeline_id} {lsn}"),
            _ => format!("lease lsn {tenant_id}-{} {timeline_id} {lsn}", self.shard),
        }
    }

    async fn ask_grpc(
        &self,
        address: GrpcAddress,
        pin: LeasedLsn,
        token: Option<&Secret<String>>,
        limit: Duration,
    ) -> Result<Lease, LeaseError> {
        let endpoint = GrpcEndpoint::new(address, token, self.shard)?;
        let mut connection = GrpcConnection::open(&endpoint, limit).await?;
        match connection.lease_lsn(pin.tenant_id, pin.timeline_id, pin.lsn).await {
            Ok(until) => Ok(Lease::Until(until)),
            Err(FetchError::Status { code: Code::FailedPrecondition, .. }) => Ok(Lease::Refused),
            Err(error) => Err(error.into()),
        }
    }
}

/// Parses decimal milliseconds since the Unix epoch.
fn until(text: &str) -> Result<SystemTime, LeaseError> {
    let since_epoch = text.parse().ok().map(Duration::from_millis);
    since_epoch
        .and_then(|since_epoch| SystemTime::UNIX_EPOCH.checked_add(since_epoch))
        .ok_or(LeaseError::Answer("valid_until is not a number of milliseconds"))
}

#[cfg(test)]
mod tests;
