//! Traces of the program's work, exported over OTLP (01 §21).
//!
//! Spans are made with [`span()`] and [`Span::scope`], not by `tracing`: so the log has no part in
//! them, and without traces they cost nothing. [`Traces`] exports them, [`send`] makes requests that
//! carry their context, [`Incoming`] continues the trace of a request.
//!
//! Invariant: no token, connection string, path of a URL from outside or text of a statement is in a
//! span.

mod collector;
mod config;
mod exporter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod incoming;
mod outgoing;
mod propagation;
mod queue;
mod span;

pub use exporter::{END_LIMIT, Traces};
pub(crate) use incoming::{Incoming, answered, matched};
pub(crate) use outgoing::send;
pub(crate) use propagation::{headers, started_by};
pub use span::{Parent, current_ids};
pub(crate) use span::{Span, are_on, client_span, event, failed, here, span};
