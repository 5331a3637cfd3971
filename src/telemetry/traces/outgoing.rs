//! Requests to other programs: each is a span of its own, and carries its context.

use reqwest::{RequestBuilder, Response};

use super::propagation;
use super::span::{Span, client_span};
use crate::http_client;

/// Sends a request as a span. `path` names the kind of request, with placeholders: real paths and
/// queries may hold secrets.
pub(crate) async fn send(
    request: RequestBuilder,
    path: &'static str,
) -> Result<Response, reqwest::Error> {
    let (client, request) = request.build_split();
    let mut request = request?;
    let span = client_span(format!("{} {path}", request.method()));
    span.set("http.request.method", request.method());
    span.set("url.template", path);
    let url = request.url();
    to(&span, url.host_str().unwrap_or_default(), url.port_or_known_default());
    let response = span
        .scope(async {
            request.headers_mut().extend(propagation::headers());
            client.execute(request).await
        })
        .await;
    match &response {
        Ok(response) => {
            let status = response.status();
            span.number("http.response.status_code", status.as_u16());
            if status.is_client_error() || status.is_server_error() {
                span.set("error.type", status.as_u16());
                span.fail(format_args!("the answer is {status}"));
            }
        }
        Err(error) => {
            span.set("error.type", if error.is_timeout() { "timeout" } else { "transport" });
            span.fail(http_client::failure(error));
        }
    }
    response
}

/// Names the other program.
pub(crate) fn to(span: &Span, host: &str, port: Option<u16>) {
    span.set("server.address", host);
    if let Some(port) = port {
        span.number("server.port", port);
    }
}
