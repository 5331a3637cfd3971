//! A collector of traces: decodes what it receives.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use crate::support::assertions::eventually;
use crate::support::network::{Asked, HttpStub, Reply};

/// The header of a trace of others, and its parts.
pub const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub const CALLER: &str = "b7ad6b7169203331";

/// Kinds of spans, by their numbers in the protocol.
pub const INTERNAL: i32 = 1;
pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;

/// A span as it was received; ids in hexadecimal digits, an absent parent is empty.
#[derive(Debug, Clone)]
pub struct Seen {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: i32,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<String>,
    /// The text of the status, if that is an error.
    pub error: Option<String>,
    /// Attributes of the program.
    pub resource: BTreeMap<String, String>,
}

impl Seen {
    /// `traceparent` of a request that was made inside this span.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

pub struct Collector {
    pub stub: HttpStub,
    endpoint: String,
}

impl Collector {
    /// Takes everything.
    pub async fn start() -> Self {
        Self::replying(Reply::Answer(200, Vec::new())).await
    }

    pub async fn replying(reply: Reply) -> Self {
        let stub = HttpStub::start(reply).await;
        let endpoint = stub.url();
        Self { stub, endpoint }
    }

    /// The environment of a program that exports here, soon after a span has ended; `more` counts
    /// before it.
    pub fn env<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("OTEL_SDK_DISABLED", ""),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ];
        own.into_iter().chain(more.iter().copied()).collect()
    }

    /// Requests with traces.
    pub fn requests(&self) -> Vec<Asked> {
        self.stub.asked()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Seen> {
        self.requests().iter().flat_map(|asked| decoded(&asked.body)).collect()
    }

    /// Waits for a span that fits; returns the first one.
    pub async fn wait(&self, what: &str, fits: impl Fn(&Seen) -> bool) -> Seen {
        let mut found = None;
        eventually(&format!("a span: {what}; there are {:#?}", self.names()), || {
            found = self.spans().into_iter().find(|span| fits(span));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits for a span with this name.
    pub async fn wait_for(&self, name: &str) -> Seen {
        self.wait(name, |span| span.name == name).await
    }

    /// Names of all spans so far.
    pub fn names(&self) -> Vec<String> {
        self.spans().into_iter().map(|span| span.name).collect()
    }
}

/// The spans of a request.
pub fn decoded(body: &[u8]) -> Vec<Seen> {
    let mut found = Vec::new();
    for of_resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let resource = texts(of_resource.resource.unwrap().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
            let status = span.status.unwrap_or_default();
            found.push(Seen {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                attributes: texts(span.attributes),
                events: span.events.into_iter().map(|event| event.name).collect(),
                error: (status.code() == StatusCode::Error).then_some(status.message),
                resource: resource.clone(),
            });
        }
    }
    found
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let attributes = attributes.into_iter();
    attributes.map(|it| (it.key, text(it.value.unwrap().value.unwrap()))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
