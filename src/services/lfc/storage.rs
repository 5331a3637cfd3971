//! The endpoint storage: one object per endpoint, reached over HTTP with a token (07 §4.1).

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use reqwest::{Client, Response, StatusCode};
use thiserror::Error;
use url::Url;

use super::shared::{LfcLimits, STATE_LIMIT};
use crate::http_client::{self, Redirects};
use crate::secret::Secret;
use crate::spec::ParsedSpec;
use crate::telemetry::storage_metrics::{Peer, StorageTries};
use crate::telemetry::traces;

/// Last part of the path of the object.
const OBJECT: &str = "lfc_state";
/// The path of an object, for traces.
const PATH: &str = "/{tenant_id}/{timeline_id}/{endpoint_id}/lfc_state";

/// Why there is no object: what the request or the spec lacks (03 §7).
#[derive(Debug, Error)]
pub(super) enum NoObject {
    /// Neither names an endpoint.
    #[error("pspec.endpoint_id missing, other endpoint_id not provided")]
    Endpoint,
    /// The spec names no storage.
    #[error("pspec.endpoint_storage_addr missing")]
    Address,
    /// The spec has no token for it.
    #[error("pspec.endpoint_storage_token missing")]
    Token,
    /// URLs drop such parts of a path.
    #[error("{0:?} is not an endpoint_id")]
    NotAnId(String),
    /// Not a host with a port.
    #[error("endpoint_storage_addr is not of the form host:port: {0}")]
    NotAnAddress(url::ParseError),
}

/// The object that holds the state of one endpoint's cache.
#[derive(Debug)]
pub(super) struct StateObject {
    url: Url,
    token: Secret<String>,
}

impl StateObject {
    /// The object of another endpoint, or of the spec's own. The endpoint's id is one part of the
    /// path, whatever characters it has (03 W20).
    pub(super) fn of(spec: &ParsedSpec, from_endpoint: Option<&str>) -> Result<Self, NoObject> {
        let endpoint = from_endpoint.or(spec.spec.endpoint_id.as_deref());
        let endpoint = endpoint.ok_or(NoObject::Endpoint)?;
        let address = spec.endpoint_storage_addr.as_deref().ok_or(NoObject::Address)?;
        let token = spec.endpoint_storage_token.clone().ok_or(NoObject::Token)?;
        if ["", ".", ".."].contains(&endpoint) {
            return Err(NoObject::NotAnId(endpoint.to_owned()));
        }
        let url = Url::parse(&format!("http://{address}/"));
        let mut url = url.map_err(NoObject::NotAnAddress)?;
        let (tenant, timeline) = (spec.tenant_id.to_string(), spec.timeline_id.to_string());
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend([tenant.as_str(), &timeline, endpoint, OBJECT]);
        }
        Ok(Self { url, token })
    }

    /// Requests the object without reading the body. `None` if the object does not exist.
    pub(super) async fn get(
        &self,
        limits: &LfcLimits,
        tries: &StorageTries,
    ) -> anyhow::Result<Option<Response>> {
        let request = client(limits, Some(limits.idle))?.get(self.url.clone());
        let request = request.bearer_auth(self.token.expose());
        let response = traces::send(request, PATH).await;
        // An object that does not exist is an answer, too.
        let status = response.as_ref().map(Response::status).ok();
        let status = status.map(|it| if it == StatusCode::NOT_FOUND { StatusCode::OK } else { it });
        tries.count_http(Peer::EndpointStorage, status);
        let response = response.context("querying endpoint storage")?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => bail!("{status} querying endpoint storage"),
        }
    }

    /// Replaces the object.
    pub(super) async fn put(
        &self,
        body: Vec<u8>,
        limits: &LfcLimits,
        tries: &StorageTries,
    ) -> anyhow::Result<()> {
        // No idle limit: the storage is silent while it receives the body.
        let request = client(limits, None)?.put(self.url.clone());
        let request = request.bearer_auth(self.token.expose()).body(body);
        let response = traces::send(request, PATH).await;
        tries.count_http(Peer::EndpointStorage, response.as_ref().map(Response::status).ok());
        match response.context("writing to endpoint storage")?.status() {
            StatusCode::OK => Ok(()),
            status => bail!("request to endpoint storage failed: {status}"),
        }
    }
}

/// The body of an answer. The limit counts received bytes, not the length in the header.
pub(super) async fn body(response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.context("getting request body from endpoint storage")?;
        ensure!(
            body.len().saturating_add(chunk.len()) <= STATE_LIMIT,
            "getting request body from endpoint storage: it has more than {STATE_LIMIT} bytes"
        );
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A client without proxies and redirects. The address belongs to the storage network, so no proxy
/// of the environment may see it or the token (07 W25), and neither may the target of a redirect.
/// Also, a PUT would go on as a GET after a 303, whose 200 stores nothing.
fn client(limits: &LfcLimits, idle: Option<Duration>) -> anyhow::Result<Client> {
    let mut builder = http_client::builder(Redirects::NotFollowed).no_proxy();
    builder = builder.connect_timeout(limits.connect).timeout(limits.transfer);
    if let Some(idle) = idle {
        builder = builder.read_timeout(idle);
    }
    builder.build().context("no HTTP client")
}

#[cfg(test)]
mod tests;
