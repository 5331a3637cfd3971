//! Properties of headers and of short texts like them, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::time::Duration;

use opentelemetry::trace::TraceContextExt as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::collector::{MAX_PATIENCE, retry_after};
use super::config::TraceConfig;
use super::propagation::{Headers, extract, inject};
use crate::duration;
use crate::env::Environment;
use crate::fuzzing::lines;
use crate::secret::{password, token};

const SECRET: &str = "planted-secret";

/// In this order: `Retry-After`, a duration, a secret, `traceparent`, `tracestate`, headers of
/// exports, their limit.
pub(crate) fn headers(data: &[u8]) {
    let Some(([patience, time, secret, parent, state, exports], limit)) = lines(data) else {
        return;
    };
    let header =
        |name: HeaderName, text: &str| Some((name, HeaderValue::from_bytes(text.as_bytes()).ok()?));
    let headers: HeaderMap = header(RETRY_AFTER, patience).into_iter().collect();
    assert!(retry_after(&headers).is_none_or(|patience| patience <= MAX_PATIENCE));

    if let Ok(duration) = duration::parse(time) {
        assert!(duration <= Duration::from_secs(24 * 60 * 60));
        let millis = duration::millis(duration);
        assert_eq!(duration::parse(&format!("{millis}ms")), Ok(duration));
        assert!(!duration::spoken(millis).is_empty());
    }

    for (read, text) in [(token("NAME", secret), secret), (password("NAME", secret), secret)] {
        let again = read.as_ref().ok().map(|read| read.expose().clone());
        if let Some(read) = again {
            assert!(text.contains(&read) && !read.contains(['\n', '\r']));
            assert!(
                HeaderValue::from_str(&read).is_ok() || read.contains(|c: char| c.is_control())
            );
        }
    }
    let shown = token("NAME", &format!("{SECRET}{secret}\n{SECRET}")).unwrap_err();
    assert!(!format!("{shown} {shown:?}").contains(SECRET));

    let context = [("traceparent", parent), ("tracestate", state)];
    let context =
        context.into_iter().filter_map(|(name, text)| header(HeaderName::from_static(name), text));
    let place = extract(&Headers(&context.collect()));
    let mut sent = HeaderMap::new();
    inject(&place, &mut sent);
    let again = extract(&Headers(&sent));
    let ids = |place: &super::Parent| {
        let context = place.context.span().span_context().clone();
        (context.trace_id(), context.span_id(), context.trace_flags())
    };
    assert_eq!(ids(&place), ids(&again));

    let [exports, limit, state] = [exports, limit, state].map(|text| text.replace('\0', ""));
    let variables = [
        ("OTEL_EXPORTER_OTLP_HEADERS", exports.as_str()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", &limit),
        ("OTEL_RESOURCE_ATTRIBUTES", &state),
    ];
    let environment = Environment::read(&variables).expect("these never fail");
    let (config, remarks) = TraceConfig::read(&environment.otel);
    let config = config.expect("traces are on");
    assert!(config.headers.values().all(HeaderValue::is_sensitive));
    assert!(!remarks.iter().any(|remark| remark.contains(SECRET)));
}
