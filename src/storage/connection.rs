//! A connection to a pageserver, over whichever protocol the spec prefers (06 §2.2).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::errors::FetchError;
use super::grpc::GrpcConnection;
use super::libpq::LibpqConnection;
use super::request::BasebackupRequest;
use super::target::{Endpoint, PageserverTarget};

/// An open connection on which nothing was requested yet, or which streams an archive.
#[derive(Debug)]
pub(crate) struct PageserverConnection(Kind);

#[derive(Debug)]
enum Kind {
    Libpq(LibpqConnection),
    Grpc(Box<GrpcConnection>),
}

impl PageserverConnection {
    /// Connects to the first pageserver of shard 0 and, over libpq, authenticates. `limit` holds
    /// for each of its addresses; a libpq URL may ask for less.
    pub(crate) async fn open(
        target: &PageserverTarget,
        limit: Duration,
    ) -> Result<Self, FetchError> {
        Self::open_endpoint(target.endpoint(0), limit).await
    }

    /// As [`Self::open`], to the pageserver with this number, from 0
    /// ([`PageserverTarget::pageservers`]).
    pub(crate) async fn open_for(
        target: &PageserverTarget,
        number: u32,
        limit: Duration,
    ) -> Result<Self, FetchError> {
        Self::open_endpoint(target.endpoint(number), limit).await
    }

    pub(super) async fn open_endpoint(
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Self, FetchError> {
        Ok(Self(match endpoint {
            Endpoint::Libpq(endpoint) => Kind::Libpq(LibpqConnection::open(endpoint, limit).await?),
            Endpoint::Grpc(endpoint) => {
                Kind::Grpc(Box::new(GrpcConnection::open(endpoint, limit).await?))
            }
        }))
    }

    /// The peer, as `host:port` or the path of a socket.
    pub(crate) fn peer(&self) -> &str {
        match &self.0 {
            Kind::Libpq(connection) => connection.peer(),
            Kind::Grpc(connection) => connection.peer(),
        }
    }

    /// Whether the pageserver has already accepted the token. Over gRPC the token is sent with the
    /// first call.
    pub(crate) const fn is_logged_in(&self) -> bool {
        matches!(self.0, Kind::Libpq(_))
    }

    /// How long connecting and authenticating took.
    pub(crate) const fn connect_time(&self) -> Duration {
        match &self.0 {
            Kind::Libpq(connection) => connection.connect_time(),
            Kind::Grpc(connection) => connection.connect_time(),
        }
    }

    /// Whether an idle connection is known to be unusable. Does not wait. The gRPC client replaces
    /// such a connection by itself.
    pub(super) fn is_stale(&mut self) -> bool {
        match &mut self.0 {
            Kind::Libpq(connection) => connection.is_stale(),
            Kind::Grpc(_) => false,
        }
    }

    /// Asks for the base backup and waits until the server agrees to stream, without a limit.
    pub(super) async fn start_archive(
        &mut self,
        request: &BasebackupRequest<'_>,
    ) -> Result<(), FetchError> {
        match &mut self.0 {
            Kind::Libpq(connection) => connection.start_copy(&request.command()).await,
            Kind::Grpc(connection) => connection.start_archive(request).await,
        }
    }

    /// The next bytes of the archive, at most 64 KiB and never empty. `None` only after the server
    /// has reported success. `limit` holds for each wait for the network.
    pub(super) async fn next_chunk(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Bytes>, FetchError> {
        match &mut self.0 {
            Kind::Libpq(connection) => connection.next_chunk(limit).await,
            Kind::Grpc(connection) => connection.next_chunk(limit).await,
        }
    }
}

/// Shows the peer and the protocol.
impl fmt::Display for PageserverConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.0 {
            Kind::Libpq(_) => "libpq",
            Kind::Grpc(_) => "gRPC",
        };
        write!(f, "{} over {protocol}", self.peer())
    }
}
