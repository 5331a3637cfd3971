//! The driver: the one task that changes the compute.
//!
//! It takes a compute through its life: wait for a spec, start, supervise, end. It does one thing
//! at a time; a signal abandons the current work, and every wait inside that work has a deadline.
//! `running` and `promote` hold what happens while Postgres runs, [`ending`] how it ends.
//!
//! Every `select!` checks for a signal first, so that no work begins after one.

pub(crate) mod ending;
mod promote;
mod promotion;
mod reason;
pub(crate) mod reconfigure;
mod running;
pub(crate) mod shutdown;
pub mod steps;
mod task;

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;

use crate::background;
use crate::errors::one_line;
use crate::node::requests::Request;
use crate::node::{AcceptedSpec, ComputeNode};
use crate::startup::{self, Leftovers};
use crate::storage::lease;
use crate::telemetry::shown::shown;
use crate::telemetry::traces::{self, Parent, Span};
use crate::tls::TlsState;
use crate::vm_monitor::VmMonitor;
use reason::Ending;
use running::Running;
pub use shutdown::Stop;
pub use task::Driver;
use task::{ConfigureReply, GOT_REQUEST, InitDeadline, init_deadline};

impl Driver {
    /// `requests` is the receiver that came with the node, `first` the spec that the node was
    /// given, `vm_monitor` the monitor to start when the compute runs.
    pub fn new(
        node: Arc<ComputeNode>,
        first: Option<AcceptedSpec>,
        requests: mpsc::UnboundedReceiver<Request>,
        stop: Stop,
        vm_monitor: Option<VmMonitor>,
    ) -> Self {
        let tls = node.params.tls.clone();
        let tls = TlsState::new(tls, node.params.timeouts.tls, node.metrics.clone());
        let leftovers = Leftovers::default();
        Self {
            node,
            first,
            requests,
            stop,
            leftovers,
            tls,
            init_deadline: None,
            reserved_monitor: vm_monitor,
            vm_monitor: None,
            end_span: Span::default(),
        }
    }

    /// From the first spec to the end of the compute. Returns the exit code of the process.
    pub async fn run(mut self) -> u8 {
        let ending = match self.first_spec().await {
            Ok((spec, reply, from)) => {
                let node = &self.node;
                let _leases = lease::start(
                    node.watch_spec(),
                    node.params.timeouts.lease,
                    node.metrics.leases.clone(),
                );
                self.init_deadline = init_deadline(&self.node);
                self.start_and_supervise(spec, reply, &from).await
            }
            Err(ending) => ending,
        };
        self.end(ending).await
    }

    /// The spec at hand, or the one that `/configure` brings, and the trace that the start belongs to
    /// (01 §21).
    async fn first_spec(&mut self) -> Result<(AcceptedSpec, ConfigureReply, Parent), Ending> {
        if let Some(spec) = self.first.take() {
            return Ok((spec, None, traces::started_by()));
        }
        tracing::info!("no spec yet, waiting for /configure");
        let request = tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => None,
            request = self.requests.recv() => request,
        };
        match request {
            Some(Request::Configure { spec, reply, from, .. }) => {
                from.within(|| {
                    tracing::info!("{GOT_REQUEST}");
                    // Fails only if a signal came in between; the next `select!` sees it.
                    let _ = self.node.begin_start();
                });
                Ok((spec, Some(reply), from))
            }
            Some(Request::Terminate { reply, from }) => Err(Ending::NeverStarted { reply, from }),
            None => Err(Ending::Signal { postgres: None }),
        }
    }

    async fn start_and_supervise(
        &mut self,
        spec: AcceptedSpec,
        mut reply: ConfigureReply,
        from: &Parent,
    ) -> Ending {
        let mut postgres = None;
        let span = self.start_span(&spec, from);
        let start =
            startup::start(&self.node, &spec, &mut self.tls, &mut self.leftovers, &mut postgres);
        let outcome = tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => None,
            outcome = span.scope(Box::pin(start)) => Some(outcome),
            error = InitDeadline::passed(self.init_deadline) => Some(Err(error)),
        };
        let Some(outcome) = outcome else {
            span.fail("a signal has ended the start");
            return Ending::Signal { postgres };
        };
        let outcome = outcome.and_then(|()| postgres.take().context("Postgres was not started"));
        if let Err(error) = &outcome {
            span.fail(one_line(error.as_ref()));
        }
        match outcome {
            Ok(running) => {
                span.inside().within(|| startup::finish(&self.node, running.pid()));
                drop(span);
                let node = Arc::clone(&self.node);
                let _offloads = self.node.lfc.start_by_itself(spec.spec(), move || node.spec());
                if let Some(reply) = reply.take() {
                    let _ = reply.send(Ok(()));
                }
                self.start_vm_monitor(&spec);
                self.leftovers.delete_in_background();
                // In boxes, as is the start: the compiler limits how deep futures may lie in others.
                Box::pin(Running::new(self, running, spec).supervise()).await
            }
            Err(error) => Ending::StartFailed { error, postgres, reply, from: span.inside() },
        }
    }

    fn start_span(&self, spec: &AcceptedSpec, from: &Parent) -> Span {
        let span = from.span("start_compute");
        let spec = spec.spec();
        span.set("compute.id", self.node.params.compute_id.as_deref().unwrap_or_default());
        span.set("compute.mode", spec.mode());
        span.set("neon.tenant_id", spec.tenant_id);
        span.set("neon.timeline_id", spec.timeline_id);
        if let Some(operation) = &spec.spec.operation_uuid {
            span.set("neon.operation_id", shown(operation));
        }
        span
    }

    /// Starts the VM monitor (08 §1). Its failures stay its own.
    fn start_vm_monitor(&mut self, spec: &AcceptedSpec) {
        let Some(monitor) = self.reserved_monitor.take() else { return };
        let params = &self.node.params;
        let manages_cache = spec.spec().spec.disable_lfc_resizing != Some(true);
        let (version, limits) = (params.install.version, params.timeouts.vm_monitor);
        match monitor.start(&self.node.metrics, version, manages_cache, limits) {
            Ok(running) => {
                // Set once: a compute starts once.
                let _ = self.node.vm_monitor.set(running.board());
                self.vm_monitor = Some(running);
            }
            Err(error) => tracing::error!("could not start the VM monitor: {error}"),
        }
    }

    /// Ends the VM monitor: after Postgres, before the final sync (08 §1).
    async fn end_vm_monitor(&mut self) {
        let Some(monitor) = self.vm_monitor.take() else { return };
        let stop_on_signal = self.node.params.timeouts.stop_on_signal;
        monitor.end(self.stop.limit(background::END_LIMIT, stop_on_signal)).await;
    }
}
