//! The id of the request that work belongs to, as part of its span.

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
