use super::*;
use crate::env::Environment;
use opentelemetry::Key;

fn read<const N: usize>(variables: [(&str, &str); N]) -> (Option<TraceConfig>, Vec<String>) {
    TraceConfig::read(&Environment::read(&variables).unwrap().otel)
}

fn good<const N: usize>(variables: [(&str, &str); N]) -> TraceConfig {
    let (config, remarks) = read(variables);
    assert_eq!(remarks, [""; 0]);
    config.unwrap()
}

#[test]
fn without_variables() {
    let config = good([]);
    assert_eq!(config.endpoint.as_str(), "http://localhost:4318/v1/traces");
    assert_eq!((config.headers.len(), config.gzip, config.propagates), (0, false, true));
    assert_eq!(config.timeout, Duration::from_secs(10));
    let batches = Batches { queue: 2048, size: 512, delay: Duration::from_secs(5) };
    assert_eq!(config.batches, batches);
    assert_eq!(service(&config), "compute_ctl");
}

fn service(config: &TraceConfig) -> String {
    config.resource.get(&Key::new("service.name")).unwrap().to_string()
}

#[test]
fn off() {
    assert!(read([("OTEL_SDK_DISABLED", "true")]).0.is_none());
    assert!(read([("OTEL_TRACES_EXPORTER", "none")]).0.is_none());
    // Exactly `true`.
    for on in ["TRUE", "1", "false", "yes"] {
        assert!(read([("OTEL_SDK_DISABLED", on)]).0.is_some(), "{on}");
    }
}

#[test]
fn the_address_of_traces_counts_before_the_general_one() {
    let general = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for (base, url) in [
        ("http://h:1", "http://h:1/v1/traces"),
        ("http://h:1/", "http://h:1/v1/traces"),
        ("https://h/otlp/x/", "https://h/otlp/x/v1/traces"),
    ] {
        assert_eq!(good([(general, base)]).endpoint.as_str(), url);
    }
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:2/as/it/is");
    assert_eq!(good([(general, "http://h:1"), traces]).endpoint.as_str(), traces.1);
}

#[test]
fn headers_are_decoded_and_sensitive() {
    let general = (OTLP_HEADERS, "authorization=Bearer%20planted, x-scope-orgid = 7 ,");
    let headers = good([general]).headers;
    assert_eq!(headers["authorization"], "Bearer planted");
    assert_eq!(headers["x-scope-orgid"], "7");
    assert!(!format!("{headers:?}").contains("planted"), "{headers:?}");
    let headers = good([general, (OTLP_TRACES_HEADERS, "a=b")]).headers;
    assert_eq!((headers.len(), headers["a"].to_str().unwrap()), (1, "b"));
}

#[test]
fn the_program_is_named() {
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment=pr%C3%B6");
    let config = good([attributes]);
    assert_eq!(service(&config), "a");
    let environment = config.resource.get(&Key::new("deployment.environment")).unwrap();
    assert_eq!(environment.to_string(), "prö");
    assert_eq!(service(&good([attributes, ("OTEL_SERVICE_NAME", "b")])), "b");
}

#[test]
fn numbers_and_names() {
    let config = good([
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "70"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_PROPAGATORS", "baggage, tracecontext"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]);
    assert_eq!(config.timeout, Duration::from_secs(2));
    let batches = Batches { queue: 100, size: 100, delay: Duration::from_millis(70) };
    assert_eq!(config.batches, batches);
    assert!(config.gzip && config.propagates);
    assert_eq!(format!("{:?}", config.sampler), "TraceIdRatioBased(0.25)");
    assert!(!good([("OTEL_PROPAGATORS", "none")]).propagates);
    let short = good([("OTEL_BSP_EXPORT_TIMEOUT", "1500")]);
    assert_eq!(short.timeout, Duration::from_millis(1500));
}

#[test]
fn what_cannot_be_used_is_named_once_and_not_shown() {
    // Without the attributes of the program, whose order varies.
    let shown = |config: TraceConfig| {
        format!("{:?}", TraceConfig { resource: Resource::builder_empty().build(), ..config })
    };
    let standard = shown(good([]));
    for name in [
        "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_PROPAGATORS",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    ] {
        let (config, remarks) = read([(name, "planted planted")]);
        let [remark] = &remarks[..] else { panic!("{name}: {remarks:?}") };
        assert!(remark.starts_with(name) && !remark.contains("planted"), "{remark}");
        let config = config.unwrap();
        assert_eq!(service(&config), "compute_ctl", "{name}");
        assert_eq!(shown(config), standard, "{name}");
    }
    let ratio = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    let (config, remarks) = read([ratio, ("OTEL_TRACES_SAMPLER_ARG", "2")]);
    assert_eq!(format!("{:?}", config.unwrap().sampler), "ParentBased(TraceIdRatioBased(1.0))");
    assert!(remarks[0].starts_with("OTEL_TRACES_SAMPLER_ARG "), "{remarks:?}");
    for (name, bad) in [
        (OTLP_HEADERS, "=planted"),
        (OTLP_HEADERS, "a=%ffplanted"),
        (OTLP_HEADERS, "a=planted\u{1}"),
        (OTLP_HEADERS, "a b=planted"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://planted"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1000001"),
    ] {
        let (_, remarks) = read([(name, bad)]);
        let [remark] = &remarks[..] else { panic!("{name}={bad}: {remarks:?}") };
        assert!(remark.starts_with(name) && !remark.contains("planted"), "{remark}");
    }
}
