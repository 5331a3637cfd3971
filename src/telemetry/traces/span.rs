//! Spans as the rest of the program makes them.
//!
//! ```text
//!  let span = traces::span("refresh");     child of the span in whose scope this runs
//!  span.scope(work).await                  spans made in `work` are its children
//!  drop(span)                              ends it
//! ```
//!
//! A place has its place in the log, too: work that a request begins elsewhere, in the driver or in
//! a task, runs within the log span of the request, so that its lines have the id of the request
//! (01 §20.1).
//!
//! Without traces a [`Span`] is the place in the log alone: making, using and ending it costs no
//! allocation.

use std::fmt::Display;

use opentelemetry::context::{FutureExt as _, WithContext};
use opentelemetry::trace::{
    SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::sync::OnceLock;
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

/// The maker of all spans; unset without traces.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Name of the instrumentation scope.
const SCOPE: &str = "compute_ctl";

/// Spans are made from now on. A second call has no effect.
pub(super) fn install(provider: &SdkTracerProvider) {
    let _ = TRACER.set(provider.tracer(SCOPE));
}

/// Whether spans are made.
pub(crate) fn are_on() -> bool {
    TRACER.get().is_some()
}

/// A place in a trace and in the log, for work that goes on elsewhere: in the driver, in a task.
#[derive(Debug, Clone)]
pub struct Parent {
    pub(super) context: Context,
    /// The log span; none leaves the work in the one where it runs.
    log: tracing::Span,
}

/// Work in a place.
type Placed<F> = Instrumented<WithContext<F>>;

impl Default for Parent {
    fn default() -> Self {
        Self::remote(Context::default())
    }
}

impl Parent {
    /// A place in another program.
    pub(super) fn remote(context: Context) -> Self {
        Self { context, log: tracing::Span::none() }
    }

    /// Begins a span here.
    pub(crate) fn span(&self, name: impl Into<Name>) -> Span {
        Span::begin(SpanKind::Internal, name, self)
    }

    /// Does a short piece of work here.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _context = self.context.clone().attach();
        self.log.in_scope(work)
    }

    /// Runs `work` here.
    pub(crate) fn scope<F: Future>(&self, work: F) -> Placed<F> {
        work.with_context(self.context.clone()).instrument(self.log.clone())
    }

    pub(super) fn server_span(&self, name: impl Into<Name>) -> Span {
        Span::begin(SpanKind::Server, name, self)
    }
}

type Name = std::borrow::Cow<'static, str>;

/// The place where this runs.
pub(crate) fn here() -> Parent {
    Parent { context: Context::current(), log: tracing::Span::current() }
}

/// Begins a span for work of our own.
pub(crate) fn span(name: &'static str) -> Span {
    here().span(name)
}

/// Begins a span for a request to another program.
pub(crate) fn client_span(name: impl Into<Name>) -> Span {
    Span::begin(SpanKind::Client, name, &here())
}

/// A piece of work. Dropping it ends the span.
#[derive(Debug, Default)]
#[must_use = "the span ends when it is dropped"]
pub(crate) struct Span(Parent);

impl Span {
    fn begin(kind: SpanKind, name: impl Into<Name>, parent: &Parent) -> Self {
        let log = parent.log.clone();
        let Some(tracer) = TRACER.get() else {
            return Self(Parent { context: Context::default(), log });
        };
        let span = SpanBuilder::from_name(name).with_kind(kind);
        let span = tracer.build_with_context(span, &parent.context);
        Self(Parent { context: parent.context.with_span(span), log })
    }

    /// Runs `work` inside the span. It does not end with `work`.
    pub(crate) fn scope<F: Future>(&self, work: F) -> Placed<F> {
        self.0.scope(work)
    }

    /// The place inside the span.
    pub(crate) fn inside(&self) -> Parent {
        self.0.clone()
    }

    /// Sets an attribute. It must not be a secret or the text of a statement.
    pub(crate) fn set(&self, name: &'static str, value: impl Display) {
        set(&self.0.context, name, value);
    }

    /// Sets an attribute that is a number.
    pub(crate) fn number(&self, name: &'static str, value: impl TryInto<i64>) {
        let span = self.0.context.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new(name, value.try_into().unwrap_or(i64::MAX)));
        }
    }

    /// Marks the work as failed. The text is one that the log may show.
    pub(crate) fn fail(&self, error: impl Display) {
        fail(&self.0.context, error);
    }
}

impl Drop for Span {
    /// Tasks that the work has left behind may still hold the context.
    fn drop(&mut self) {
        self.0.context.span().end();
    }
}

fn set(context: &Context, name: &'static str, value: impl Display) {
    let span = context.span();
    if span.is_recording() {
        span.set_attribute(KeyValue::new(name, value.to_string()));
    }
}

fn fail(context: &Context, error: impl Display) {
    let span = context.span();
    if span.is_recording() {
        span.set_status(Status::error(error.to_string()));
    }
}

/// Marks the work in whose scope this runs as failed, see [`Span::fail`].
pub(crate) fn failed(error: impl Display) {
    Context::map_current(|context| fail(context, error));
}

/// Names the span in whose scope this runs, and sets an attribute of it.
pub(crate) fn rename(name: String, attribute: &'static str, value: impl Display) {
    Context::map_current(|context| {
        context.span().update_name(name);
        set(context, attribute, value);
    });
}

/// Notes a step of the span in whose scope this runs.
pub(crate) fn event(name: &'static str) {
    Context::map_current(|context| context.span().add_event(name, Vec::new()));
}

/// Ids of the span in whose scope this runs, in hexadecimal digits: of its trace, and its own. For
/// the log.
pub fn current_ids() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests of the crate run without traces.
    #[tokio::test]
    async fn without_traces_there_are_no_spans() {
        assert!(!are_on());
        let span = span("work");
        span.set("name", "value");
        span.number("count", 1_u64);
        span.fail("error");
        rename("other".to_owned(), "name", "value");
        assert_eq!(span.scope(async { current_ids() }).await, None);
        assert!(!span.0.context.has_active_span());
        assert!(!span.inside().span("child").0.context.has_active_span());
    }

    /// Work of a request in another task is within the log span of the request.
    #[tokio::test]
    async fn work_elsewhere_is_in_the_log_span_of_its_request() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let seen = crate::telemetry::testing::Seen::default();
        let sink = crate::telemetry::sink::LogSink::new(seen.clone()).unwrap();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false);
        let log = tracing_subscriber::registry().with(lines.with_writer(sink.clone()));
        let _log = tracing::subscriber::set_default(log);
        // A second one keeps the statements above from being switched off by other tests' threads.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        let from = tracing::info_span!("HTTP").in_scope(here);
        from.within(|| tracing::info!("zero"));
        let work = async { tracing::info!("one") };
        let outer = from.span("reconfigure");
        tokio::spawn(outer.scope(work)).await.unwrap();
        let inner = outer.scope(async { span("step") }).await;
        tokio::spawn(inner.inside().scope(async { tracing::info!("two") })).await.unwrap();
        // A place without a log span changes nothing.
        let nowhere = Parent::default().span("shutdown");
        tracing::info_span!("outer")
            .in_scope(|| async { tracing::info!("three") }.in_current_span())
            .await;
        nowhere.scope(async { tracing::info!("four") }).await;
        assert!(sink.flush(std::time::Duration::from_secs(60)));
        let text = seen.text();
        let lines: Vec<_> = text.lines().map(|line| line.split_once(" INFO ").unwrap().1).collect();
        assert_eq!(
            lines,
            ["HTTP: zero", "HTTP: one", "HTTP: two", "outer: three", "four"],
            "{text}"
        );
    }
}
