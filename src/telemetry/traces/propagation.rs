//! W3C trace context: from requests, from the environment of the process, and in requests to other
//! programs (01 §21, 03 §3.3).

use std::sync::OnceLock;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::span::{self, Parent};
use crate::env::Otel;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Where the process itself was started from; unset if contexts are not passed on.
static STARTED_BY: OnceLock<Parent> = OnceLock::new();

/// Contexts are passed on from now on.
pub(super) fn install(otel: &Otel) {
    let _ = STARTED_BY.set(extract(&OfProcess(otel)));
}

/// The place in a trace that `TRACEPARENT` and `TRACESTATE` name.
pub(crate) fn started_by() -> Parent {
    STARTED_BY.get().cloned().unwrap_or_default()
}

/// The place in a trace that the headers of a request name.
pub(crate) fn of_request(headers: &HeaderMap) -> Parent {
    match STARTED_BY.get() {
        Some(_) => extract(&Headers(headers)),
        None => Parent::default(),
    }
}

/// The headers for a request that is made here.
pub(crate) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    if STARTED_BY.get().is_some() {
        inject(&span::here(), &mut headers);
    }
    headers
}

pub(super) fn extract(from: &impl Extractor) -> Parent {
    Parent::remote(TraceContextPropagator::new().extract_with_context(&Context::new(), from))
}

pub(super) fn inject(place: &Parent, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&place.context, &mut Into(headers));
}

struct OfProcess<'a>(&'a Otel);

impl Extractor for OfProcess<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.0.get("TRACEPARENT"),
            TRACESTATE => self.0.get("TRACESTATE"),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

pub(super) struct Headers<'a>(pub(super) &'a HeaderMap);

impl Extractor for Headers<'_> {
    /// A request with several headers of one name has none: they cannot all be true.
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key).iter();
        let first = values.next()?;
        values.next().is_none().then(|| first.to_str().ok()).flatten()
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

struct Into<'a>(&'a mut HeaderMap);

impl Injector for Into<'_> {
    fn set(&mut self, key: &str, value: String) {
        let (name, value) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = (name, value)
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt as _;

    use super::*;
    use crate::env::Environment;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn sent(place: &Parent) -> HeaderMap {
        let mut headers = HeaderMap::new();
        inject(place, &mut headers);
        headers
    }

    #[test]
    fn a_context_is_passed_on() {
        let variables = [("TRACEPARENT", PARENT), ("TRACESTATE", "a=1,b=2")];
        let otel = Environment::read(&variables).unwrap().otel;
        let headers = sent(&extract(&OfProcess(&otel)));
        assert_eq!(headers["traceparent"], PARENT);
        assert_eq!(headers["tracestate"], "a=1,b=2");
        assert_eq!(sent(&extract(&Headers(&headers))), headers);
        assert!(extract(&Headers(&headers)).context.span().span_context().is_remote());
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        for bad in ["", "00-0af7651916cd43dd8448eb211c80319c", "00-0-0-01", "x"] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(TRACEPARENT),
                HeaderValue::from_str(bad).unwrap(),
            )]);
            assert_eq!(sent(&extract(&Headers(&headers))), HeaderMap::new(), "{bad:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(sent(&extract(&Headers(&twice))), HeaderMap::new());
    }
}
