//! The endpoint storage: one object per endpoint, reached over HTTP with a token (07 §4.1).

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::{LfcLimits, STATE_LIMIT};
use crate::spec::ParsedSpec;
use crate::telemetry::secret::Secret;

/// Last part of the path.
const OBJECT: &str = "lfc_state";

/// The object that holds the state of one endpoint's cache.
#[derive(Debug)]
pub(super) struct StateObject {
    url: Url,
    token: Secret<String>,
}

impl StateObject {
    /// The object of another endpoint, or of the spec's own. An endpoint is one part of the path,
    /// whatever characters its id has (03 W20).
    pub(super) fn of(spec: &ParsedSpec, from_endpoint: Option<&str>) -> anyhow::Result<Self> {
        let endpoint = from_endpoint.or(spec.spec.endpoint_id.as_deref());
        let endpoint =
            endpoint.context("pspec.endpoint_id missing, other endpoint_id not provided")?;
        let address = spec.endpoint_storage_addr.as_deref();
        let address = address.context("pspec.endpoint_storage_addr missing")?;
        let token = spec.endpoint_storage_token.clone();
        let token = token.context("pspec.endpoint_storage_token missing")?;
        // These would be no part of the path at all.
        ensure!(!["", ".", ".."].contains(&endpoint), "{endpoint:?} is no endpoint_id");
        let mut url = Url::parse(&format!("http://{address}/"))
            .with_context(|| format!("endpoint_storage_addr {address:?} is not host:port"))?;
        let (tenant, timeline) = (spec.tenant_id.to_string(), spec.timeline_id.to_string());
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend([tenant.as_str(), &timeline, endpoint, OBJECT]);
        }
        Ok(Self { url, token })
    }

    /// Asks for the object; the body is not read yet. `None` if there is no such object.
    pub(super) async fn get(&self, limits: &LfcLimits) -> anyhow::Result<Option<Response>> {
        let request = client(limits, Some(limits.idle))?.get(self.url.clone());
        let response = request.bearer_auth(self.token.expose()).send().await;
        let response = response.context("querying endpoint storage")?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => bail!("{status} querying endpoint storage"),
        }
    }

    /// Replaces the object.
    pub(super) async fn put(&self, body: Vec<u8>, limits: &LfcLimits) -> anyhow::Result<()> {
        // Silence means nothing while we are the ones who talk.
        let request = client(limits, None)?.put(self.url.clone());
        let response = request.bearer_auth(self.token.expose()).body(body).send().await;
        match response.context("writing to endpoint storage")?.status() {
            StatusCode::OK => Ok(()),
            status => bail!("request to endpoint storage failed: {status}"),
        }
    }
}

/// The body of an answer. What its header says of the length is not believed.
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

/// The address is one of the storage network; a proxy of the environment has no business with it,
/// nor with the token (07 W25).
fn client(limits: &LfcLimits, idle: Option<Duration>) -> anyhow::Result<Client> {
    // Installed once per process; a second call reports that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder =
        Client::builder().no_proxy().connect_timeout(limits.connect).timeout(limits.transfer);
    if let Some(idle) = idle {
        builder = builder.read_timeout(idle);
    }
    builder.build().context("no HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TENANT: &str = "f9ddaa608f8785cbabc1fd5fd652b865";
    const TIMELINE: &str = "0d5fa912d882faf89d456adb9d001240";

    fn spec(members: Value) -> ParsedSpec {
        let mut spec = json!({
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "cluster": {"roles": [], "databases": []},
            "tenant_id": TENANT.to_uppercase(), "timeline_id": TIMELINE,
            "pageserver_connstring": "postgres://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["a:1"]
        });
        let members = members.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(members);
        serde_json::from_value::<crate::spec::ComputeSpec>(spec).unwrap().try_into().unwrap()
    }

    #[test]
    fn what_is_missing_is_named_in_order() {
        let error = |members, from: Option<&str>| {
            StateObject::of(&spec(members), from).unwrap_err().to_string()
        };
        let missing = "pspec.endpoint_id missing, other endpoint_id not provided";
        assert_eq!(error(json!({}), None), missing);
        assert_eq!(error(json!({}), Some("e")), "pspec.endpoint_storage_addr missing");
        let members = json!({"endpoint_id": "e", "endpoint_storage_addr": "es:1"});
        assert_eq!(error(members, None), "pspec.endpoint_storage_token missing");
    }

    #[test]
    fn an_endpoint_is_one_part_of_the_path() {
        let spec = spec(json!({
            "endpoint_id": "own", "endpoint_storage_addr": "es:9993",
            "endpoint_storage_token": "planted"
        }));
        let url = |from| StateObject::of(&spec, from).map(|object| object.url.to_string());
        let expected = |part: &str| format!("http://es:9993/{TENANT}/{TIMELINE}/{part}/lfc_state");
        for (from, part) in [
            (None, "own"),
            (Some("other"), "other"),
            (Some("../x"), "..%2Fx"),
            (Some("a?b=c#d"), "a%3Fb=c%23d"),
            (Some("%2e%2e"), "%252e%252e"),
            (Some("ü \\"), "%C3%BC%20%5C"),
        ] {
            assert_eq!(url(from).unwrap(), expected(part));
        }
        for from in ["", ".", ".."] {
            assert!(url(Some(from)).is_err(), "{from:?}");
        }
        assert!(!format!("{:?}", StateObject::of(&spec, None)).contains("planted"));
    }
}
