//! One request to the collector: OTLP over HTTP, binary protobuf.
//!
//! The library `opentelemetry-otlp` would read the environment a second time by its own rules, and
//! would need our HTTP client wrapped in its own; what it does beyond that is this file.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use thiserror::Error;

use super::config::TraceConfig;
use crate::http_client::{self, Redirects};

/// Bytes of an answer that are read; an ordinary one has a few.
const MAX_ANSWER: usize = 64 * 1024;
/// A collector may ask for this much patience at most.
pub(super) const MAX_PATIENCE: Duration = Duration::from_secs(30);

/// The collector of traces.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    url: Url,
    gzip: bool,
    resource: ResourceAttributesWithSchema,
}

/// Why the collector has not taken a batch.
#[derive(Debug, Error)]
pub(super) enum ExportError {
    /// No answer.
    #[error("{0}")]
    Transport(String),
    /// The answer is not 200.
    #[error("it answered {status}")]
    Status {
        /// What it answered.
        status: StatusCode,
        /// How long it asks to wait.
        patience: Option<Duration>,
    },
}

impl ExportError {
    /// Whether another try may succeed, as the protocol says.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) => true,
            Self::Status { status, .. } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }

    /// How long the collector asks to wait before the next try.
    pub(super) const fn patience(&self) -> Option<Duration> {
        match self {
            Self::Status { patience, .. } => *patience,
            Self::Transport(_) => None,
        }
    }
}

impl Collector {
    pub(super) fn new(config: &TraceConfig) -> Result<Self, reqwest::Error> {
        let mut headers = config.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if config.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        // The headers may hold a credential, so no redirect is followed.
        let mut client = http_client::builder(Redirects::NotFollowed)
            .timeout(config.timeout)
            .default_headers(headers);
        if is_this_machine(&config.endpoint) {
            client = client.no_proxy();
        }
        Ok(Self {
            client: client.build()?,
            url: config.endpoint.clone(),
            gzip: config.gzip,
            resource: (&config.resource).into(),
        })
    }

    /// The body of a request.
    pub(super) fn encode(&self, spans: Vec<SpanData>) -> Bytes {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        if !self.gzip {
            return body.into();
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing into memory does not fail.
        let _ = packer.write_all(&body);
        packer.finish().unwrap_or_default().into()
    }

    /// Sends a body. Returns how many spans the collector has refused.
    pub(super) async fn send(&self, body: Bytes) -> Result<u64, ExportError> {
        let failed = |error| ExportError::Transport(http_client::failure(&error));
        let response =
            self.client.post(self.url.clone()).body(body).send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let patience = retry_after(response.headers());
            return Err(ExportError::Status { status, patience });
        }
        let answer = answer(response).await.map_err(failed)?;
        let answer = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap_or_default();
        let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or(0))
    }

    /// The part of the address that may be logged.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// No proxy leads to an address of this machine.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The beginning of the body.
async fn answer(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    Ok(body)
}

/// In seconds; the form with a date is not used by collectors.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PATIENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again() {
        let status = |code| ExportError::Status {
            status: StatusCode::from_u16(code).unwrap(),
            patience: None,
        };
        for (code, again) in [(400, false), (401, false), (307, false), (429, true), (503, true)] {
            assert_eq!(status(code).is_transient(), again, "{code}");
        }
        let headers = |text| HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("7000")), Some(MAX_PATIENCE));
        assert_eq!(retry_after(&headers("soon")), None);
    }

    #[test]
    fn proxies_are_for_other_machines() {
        for (url, own) in [
            ("http://localhost:1/", true),
            ("http://127.0.0.9/", true),
            ("http://[::1]/", true),
            ("http://localhost.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_this_machine(&Url::parse(url).unwrap()), own, "{url}");
        }
    }
}
