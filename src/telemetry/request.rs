//! Requests in the log and in the traces: their ids as part of their spans, and what is shown of
//! their queries.

use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan as _;

/// The id of a request, in the extensions of its span. It is not a field: the text form shows the
/// fields of all spans in every line.
#[derive(Debug)]
pub(super) struct RequestId(pub(super) String);

/// Gives every JSON record within a span the id of a request.
pub(crate) fn tag(span: &Span, id: &str) {
    span.with_subscriber(|(span, subscriber)| {
        let registry = subscriber.downcast_ref::<Registry>();
        if let Some(span) = registry.and_then(|registry| registry.span(span)) {
            span.extensions_mut().replace(RequestId(id.to_owned()));
        }
    });
}

/// Parameters of our routes, none of which is secret.
pub(crate) const PARAMETERS: [&str; 9] = [
    "after",
    "database",
    "from_endpoint",
    "is_library",
    "lines",
    "mode",
    "refresh",
    "timeout",
    "wait",
];

/// What replaces a value.
const REDACTED: &str = "REDACTED";

/// A query with the values of our own parameters only: a client may send anything, also its token.
pub(crate) fn shown_query(query: &str) -> String {
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if PARAMETERS.contains(&name) => parameter.to_owned(),
        // Base64 ends with `=`: that is a value without a name.
        Some((name, value)) if value.bytes().any(|byte| byte != b'=') => {
            format!("{name}={REDACTED}")
        }
        _ => REDACTED.to_owned(),
    };
    query.split('&').map(parameter).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_unknown_parameters_are_not_shown() {
        for (query, expected) in [
            ("mode=fast&wait=5s", "mode=fast&wait=5s"),
            ("token=planted&mode=fast", "token=REDACTED&mode=fast"),
            ("planted&Mode=planted", "REDACTED&Mode=REDACTED"),
            ("cGxhbnRlZA==&cGxhbnRlZA=", "REDACTED&REDACTED"),
            ("a=b=planted&", "a=REDACTED&REDACTED"),
        ] {
            assert_eq!(shown_query(query), expected);
        }
    }
}
