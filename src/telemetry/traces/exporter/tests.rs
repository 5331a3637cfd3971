use std::sync::Arc;

use axum::http::StatusCode;
use axum::{Router, routing::post};
use bytes::Bytes;
use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parking_lot::Mutex;
use prost::Message as _;

use super::*;
use crate::env::Environment;

const LONG: Duration = Duration::from_secs(60);

/// Names of the spans of each request.
type Requests = Arc<Mutex<Vec<Vec<String>>>>;

/// A collector that answers with these statuses in turn, and then with 200.
async fn collector(mut statuses: Vec<u16>) -> (String, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    statuses.reverse();
    let statuses = Arc::new(Mutex::new(statuses));
    let handler = async move |body: Bytes| {
        let message = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = message.resource_spans.into_iter().flat_map(|it| it.scope_spans);
        let spans = scopes.flat_map(|it| it.spans);
        seen.lock().push(spans.map(|span| span.name).collect());
        StatusCode::from_u16(statuses.lock().pop().unwrap_or(200)).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(handler));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, requests)
}

/// An export to a collector, and the maker of spans.
fn export(url: &str, more: &[(&'static str, &str)]) -> (Traces, SdkTracerProvider) {
    let variable = |name: &str| more.iter().find(|it| it.0 == name).map_or("", |it| it.1);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", variable("OTEL_BSP_MAX_QUEUE_SIZE")),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")),
    ];
    let (config, remarks) = TraceConfig::read(&Environment::read(&variables).unwrap().otel);
    assert_eq!(remarks, [""; 0]);
    let config = config.unwrap();
    let metrics = TraceMetrics::new().unwrap();
    let (queue, spans) = Queue::new(config.batches.queue, metrics.clone());
    let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
    (Traces::run(Collector::new(&config).unwrap(), spans, config.batches, metrics), provider)
}

fn work(provider: &SdkTracerProvider, names: &[&'static str]) {
    let tracer = provider.tracer("test");
    names.iter().for_each(|name| drop(tracer.start(*name)));
}

#[tokio::test]
async fn the_end_exports_what_waits_in_batches() {
    let (url, requests) = collector(Vec::new()).await;
    let (traces, provider) = export(&url, &[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")]);
    work(&provider, &["a", "b", "c", "d", "e"]);
    let metrics = traces.metrics.clone();
    traces.end(LONG).await;
    let requests = requests.lock();
    assert!(requests.iter().all(|batch| batch.len() <= 2), "{requests:?}");
    assert_eq!(requests.concat(), ["a", "b", "c", "d", "e"]);
    assert_eq!((metrics.failures.get(), metrics.dropped.get()), (0, 0));
}

#[tokio::test]
async fn a_transient_error_loses_nothing() {
    let (url, requests) = collector(vec![503]).await;
    let (traces, provider) = export(&url, &[]);
    work(&provider, &["a"]);
    while requests.lock().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let metrics = traces.metrics.clone();
    traces.end(LONG).await;
    assert_eq!(requests.lock().concat(), ["a", "a"]);
    assert_eq!((metrics.failures.get(), metrics.dropped.get()), (1, 0));
}

#[tokio::test]
async fn what_is_refused_or_finds_no_place_is_counted() {
    let (url, requests) = collector(vec![400]).await;
    let (traces, provider) = export(&url, &[]);
    work(&provider, &["a", "b"]);
    let metrics = traces.metrics.clone();
    traces.end(LONG).await;
    assert_eq!(requests.lock().len(), 1);
    assert_eq!((metrics.failures.get(), metrics.dropped.get()), (1, 2));

    let (traces, provider) = export(&url, &[("OTEL_BSP_MAX_QUEUE_SIZE", "3")]);
    // The task does not run in between.
    work(&provider, &["c", "d", "e", "f", "g"]);
    let metrics = traces.metrics.clone();
    traces.end(LONG).await;
    assert_eq!(metrics.dropped.get(), 2);
    assert_eq!(requests.lock()[1], ["c", "d", "e"]);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_silent_collector() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (traces, provider) = export(&format!("http://{}", listener.local_addr().unwrap()), &[]);
    work(&provider, &["a"]);
    let began = tokio::time::Instant::now();
    traces.end(Duration::from_millis(100)).await;
    // The limit of the request is 10 s.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}
