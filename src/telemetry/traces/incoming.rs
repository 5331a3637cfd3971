//! Requests of others as spans (03 §3.3), with the names of the semantic conventions for HTTP.

use std::fmt::Display;

use reqwest::header::{HOST, HeaderMap};
use reqwest::{Method, StatusCode};

use super::outgoing::to;
use super::propagation::of_request;
use super::span::{Span, are_on, rename};
use crate::telemetry::request::shown_query;
use crate::telemetry::shown::shown;

/// A request, as it arrives.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) request_id: &'a str,
}

impl Incoming<'_> {
    /// Begins its span, in the trace that its headers name.
    pub(crate) fn span(&self) -> Span {
        if !are_on() {
            return Span::default();
        }
        // Any text can be a method; names of spans are few.
        let known = known(self.method);
        let span = of_request(self.headers).server_span(known.unwrap_or("HTTP").to_owned());
        span.set("http.request.method", known.unwrap_or("_OTHER"));
        span.set("url.scheme", "http");
        span.set("url.path", shown(self.path));
        if let Some(query) = self.query {
            span.set("url.query", shown(&shown_query(query)));
        }
        let host = self.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
        if let Some(host) = host {
            to(&span, &shown(host.host()).to_string(), host.port_u16());
        }
        span.set("request_id", self.request_id);
        span
    }
}

/// Notes the route of the request in whose scope this runs.
pub(crate) fn matched(method: &Method, route: &str) {
    if let Some(method) = known(method) {
        rename(format!("{method} {route}"), "http.route", route);
    }
}

/// Notes the answer. As the conventions say, only a failure of this program is an error.
pub(crate) fn answered(span: &Span, status: StatusCode, error: impl Display) {
    span.number("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.set("error.type", status.as_u16());
        span.fail(error);
    }
}

fn known(method: &Method) -> Option<&'static str> {
    let all = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    all.into_iter().find(|known| method == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_the_standard() {
        assert_eq!(known(&Method::POST), Some("POST"));
        assert_eq!(known(&Method::from_bytes(b"BREW").unwrap()), None);
    }
}
