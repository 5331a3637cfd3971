//! The driver while Postgres runs: new specs, refreshes, certificates, one after the other (01 §13).
//!
//! Every change waits in the node until the one before it is done, and is then seen here: a request
//! in the queue, a refresh as a flag (several count as one), a promotion as the single current
//! attempt, a certificate as the newest pair. Invariants: a signal or the end of Postgres abandons
//! all of them; a caller that waits gets an answer or sees the compute end; after a failure the old
//! spec is in force, unless a promotion fails after the server has left recovery.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::promotion::Promotion;
use super::reason::Ending;
use super::reconfigure::{self, Change, Fetched, Postmaster};
use super::steps::ReconfigurePhase;
use super::task::{Driver, GOT_REQUEST};
use crate::configure::catalog::CatalogWork;
use crate::configure::not_applied::NotApplied;
use crate::configure::unseen;
use crate::duration::varied;
use crate::errors::{one_line, report};
use crate::failpoints::edges;
use crate::node::promotion::attempt::Attempt;
use crate::node::requests::{ConfigureError, Request};
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::process::PostgresProcess;
use crate::spec::refetch::same_but_for_tokens;
use crate::state::Event;
use crate::telemetry::traces::{self, Parent};
use crate::tls::TlsPair;

/// A compute that runs.
#[derive(Debug)]
pub(super) struct Running<'d> {
    pub(super) driver: &'d mut Driver,
    pub(super) postgres: PostgresProcess,
    pub(super) postmaster: Postmaster,
    /// The spec that Postgres runs with.
    pub(super) in_force: AcceptedSpec,
    /// True when every part of `in_force` has been applied. A failed reconfiguration clears it, so
    /// that the next refresh applies the spec again even if it has not changed.
    pub(super) fully_applied: bool,
    /// What attempts to promote have done to the server.
    pub(super) promotion: Promotion,
}

/// What happens to a running compute.
enum DriverEvent {
    Exited(std::io::Result<ExitStatus>),
    Asked(Request),
    Refresh,
    Promotion(Attempt),
    Certificate(Arc<TlsPair>),
    Stopped,
}

/// How the driver goes on after a piece of work.
pub(super) enum Flow {
    GoOn,
    Exited(std::io::Result<ExitStatus>),
    Stopped,
    Detached,
}

impl<'d> Running<'d> {
    /// `spec` is in force and fully applied.
    pub(super) fn new(
        driver: &'d mut Driver,
        postgres: PostgresProcess,
        spec: AcceptedSpec,
    ) -> Self {
        let postmaster = Postmaster::new(postgres.pid(), &driver.node, &spec);
        Self {
            driver,
            postgres,
            postmaster,
            in_force: spec,
            fully_applied: true,
            promotion: Promotion::UNTOUCHED,
        }
    }

    /// Works until Postgres exits, or a request or signal ends the compute.
    pub(super) async fn supervise(mut self) -> Ending {
        loop {
            let driver = &mut *self.driver;
            let event = tokio::select! {
                biased;
                () = driver.stop.requested.cancelled() => DriverEvent::Stopped,
                status = self.postgres.wait() => DriverEvent::Exited(status),
                // The node holds a sender, so this ends only with the node.
                Some(request) = driver.requests.recv() => DriverEvent::Asked(request),
                () = driver.node.refresh_asked() => DriverEvent::Refresh,
                attempt = driver.node.promotion.asked() => DriverEvent::Promotion(attempt),
                pair = driver.tls.changed() => DriverEvent::Certificate(pair),
            };
            let flow = match event {
                DriverEvent::Exited(status) => Flow::Exited(status),
                DriverEvent::Stopped => Flow::Stopped,
                DriverEvent::Asked(Request::Terminate { reply, from }) => {
                    from.scope(self.resolve_unclear_promotion()).await;
                    self.driver.node.replace_spec(&self.in_force);
                    return Ending::Terminate { postgres: self.postgres, reply, from };
                }
                DriverEvent::Asked(Request::Configure { spec, look_everywhere, from, reply }) => {
                    let catalog = match look_everywhere {
                        true => CatalogWork::ApplyAndLook,
                        false => CatalogWork::Apply,
                    };
                    let span = from.span("reconfigure");
                    span.scope(self.configure(&spec, catalog, reply)).await
                }
                DriverEvent::Refresh => self.refresh().await,
                DriverEvent::Promotion(attempt) => self.promote(attempt).await,
                DriverEvent::Certificate(pair) => self.renew(&pair).await,
            };
            let ending = match flow {
                Flow::GoOn => continue,
                Flow::Exited(status) => Ending::PostgresExited { status, postgres: self.postgres },
                Flow::Stopped => Ending::Signal { postgres: Some(self.postgres) },
                Flow::Detached => Ending::Detached { postgres: self.postgres },
            };
            // The end uses this spec, not one that waits in the queue or whose work was cut short.
            self.driver.node.replace_spec(&self.in_force);
            return ending;
        }
    }

    /// Applies a new spec.
    async fn configure(
        &mut self,
        spec: &AcceptedSpec,
        catalog: CatalogWork,
        reply: oneshot::Sender<Result<(), ConfigureError>>,
    ) -> Flow {
        tracing::info!("{GOT_REQUEST}");
        let node = Arc::clone(&self.driver.node);
        if node.apply(Event::BeginConfiguration).is_err() {
            return Flow::GoOn;
        }
        self.resolve_unclear_promotion().await;
        // An earlier promotion has replaced the spec with its own.
        node.replace_spec(spec);
        let possible = if self.is_from_before_promotion(spec.spec()) {
            Err(NotApplied::Refused(anyhow::anyhow!(
                "this replica was promoted, and cannot have a spec of mode {} any more",
                spec.spec().mode()
            )))
        } else {
            self.drop_overrides().await.map_err(NotApplied::Failed)
        };
        if let Err(not_applied) = possible {
            let _ = reply.send(Err(self.not_applied(&not_applied, spec)));
            return Flow::GoOn;
        }
        let driver = &mut *self.driver;
        let (old, tls, postmaster) = (&self.in_force, &mut driver.tls, &self.postmaster);
        let change = Change { node: &node, old, new: spec, tls, postmaster, catalog };
        let result = tokio::select! {
            biased;
            () = driver.stop.requested.cancelled() => return Flow::Stopped,
            status = self.postgres.wait() => return Flow::Exited(status),
            result = change.reconfigure() => result,
        };
        let answer = match result {
            Ok(()) => {
                self.applied(spec);
                Ok(())
            }
            Err(not_applied) => Err(self.not_applied(&not_applied, spec)),
        };
        let _ = reply.send(answer);
        unseen::begin(&node);
        Flow::GoOn
    }

    fn applied(&mut self, spec: &AcceptedSpec) {
        self.in_force = spec.clone();
        self.fully_applied = true;
        let _ = self.driver.node.apply(Event::Succeeded);
    }

    /// Returns to the spec in force. Returns the answer to the sender of the one that is not.
    fn not_applied(&mut self, not_applied: &NotApplied, spec: &AcceptedSpec) -> ConfigureError {
        let error = not_applied.error();
        let short = one_line(error.as_ref());
        traces::failed(&short);
        match not_applied {
            NotApplied::Refused(_) => tracing::warn!("the new spec is refused: {short}"),
            _ => tracing::error!("could not apply the new spec: {short}"),
        }
        if not_applied.has_begun() {
            self.fully_applied = false;
            return ConfigureError::Failed(self.failed(error, Some(spec)));
        }
        let (node, operation) = (&self.driver.node, spec.operation());
        let _ = node.refuse_spec(report(error), operation, &self.in_force);
        match not_applied {
            NotApplied::Refused(_) => ConfigureError::Refused(short),
            _ => ConfigureError::NotBegun(short),
        }
    }

    /// Changes status, error text and spec together. `wanted` is the spec that was to be applied,
    /// if the work got that far. Returns the error text.
    fn failed(&mut self, error: &anyhow::Error, wanted: Option<&AcceptedSpec>) -> String {
        let text = report(error);
        let operation = wanted.and_then(AcceptedSpec::operation);
        let _ = self.driver.node.fail_back(text.clone(), operation, &self.in_force);
        text
    }

    /// Applies another certificate (01 §15). If that fails, the compute keeps running with the old
    /// one, so it does not become `failed`. A certificate that could not be installed is offered
    /// again later; one that Postgres has not loaded in time is in place, and Postgres loads it
    /// later.
    async fn renew(&mut self, pair: &Arc<TlsPair>) -> Flow {
        let driver = &mut *self.driver;
        let node = Arc::clone(&driver.node);
        let round = node.begin_certificate();
        let (tls, postmaster) = (&mut driver.tls, &self.postmaster);
        if round.is_ok() {
            node.step(ReconfigurePhase::Certificate.name());
        }
        let span = traces::span("renew_certificate");
        let renewed = reconfigure::renew(&node, self.in_force.spec(), tls, pair, postmaster);
        let renewed = edges::around(ReconfigurePhase::Certificate.point(), renewed);
        let result = tokio::select! {
            biased;
            () = driver.stop.requested.cancelled() => return Flow::Stopped,
            status = self.postgres.wait() => return Flow::Exited(status),
            result = span.scope(renewed) => result,
        };
        if let Err(error) = result {
            let error = one_line(error.as_ref());
            tracing::error!("the new TLS certificate is not in force: {error}");
            span.fail(error);
        }
        drop(span);
        let spec = &self.in_force.spec().spec;
        node.side.certificate_changed(spec, node.params.active_tls(spec));
        if round.is_ok() {
            let _ = node.apply(Event::Succeeded);
        }
        Flow::GoOn
    }

    /// Fetches the configuration again and applies it if it has changed (01 §13.3). Retries with
    /// growing pauses, until it works or another request comes.
    async fn refresh(&mut self) -> Flow {
        let limits = self.driver.node.params.timeouts.refresh;
        let mut pause = limits.first_pause;
        let mut from = Parent::default();
        loop {
            from = self.driver.node.refresh_asked_from().unwrap_or(from);
            if from.within(|| self.driver.node.begin_refresh()).is_err() {
                return Flow::GoOn;
            }
            let pause_now = varied(pause);
            let tried = async {
                let mut wanted = None;
                let error = match self.refresh_once(&mut wanted).await {
                    Ok(flow) => return Some(flow),
                    Err(error) => error,
                };
                self.failed(&error, wanted.as_ref());
                let error = one_line(error.as_ref());
                tracing::error!(
                    "could not refresh the configuration, will retry in {pause_now:.1?}: {error}"
                );
                traces::failed(error);
                None
            };
            if let Some(flow) = from.span("refresh").scope(tried).await {
                return flow;
            }
            if let Some(flow) = self.pause(pause_now).await {
                return flow;
            }
            pause = (pause * 2).min(limits.longest_pause);
        }
    }

    /// One try of a refresh; `wanted` receives the spec to apply.
    async fn refresh_once(&mut self, wanted: &mut Option<AcceptedSpec>) -> anyhow::Result<Flow> {
        self.resolve_unclear_promotion().await;
        self.drop_overrides().await?;
        let driver = &mut *self.driver;
        let node = Arc::clone(&driver.node);
        let (in_force, fully_applied) = (self.in_force.clone(), &mut self.fully_applied);
        let promoted = self.promotion.is_done();
        let (tls, postmaster) = (&mut driver.tls, &self.postmaster);
        let work = async {
            let spec = match reconfigure::fetch(&node, &in_force).await? {
                // A running primary cannot become a replica again.
                Fetched::Spec(spec) if promoted && !spec.spec().is_primary() => {
                    tracing::warn!(
                        "the configuration is from before the promotion, its mode is {}: not applied",
                        spec.spec().mode()
                    );
                    in_force.clone()
                }
                Fetched::Spec(spec) => spec,
                Fetched::Detached => return Ok(None),
            };
            if *fully_applied && spec.is(&in_force) {
                tracing::info!("the configuration has not changed");
            } else {
                node.replace_spec(&spec);
                let spec = &*wanted.insert(spec.clone());
                let small = same_but_for_tokens(&spec.spec().spec, &in_force.spec().spec);
                let catalog = match *fully_applied && small {
                    true => CatalogWork::Nothing,
                    false => CatalogWork::Apply,
                };
                let (new, old) = (spec, &in_force);
                let change = Change { node: &node, old, new, tls, postmaster, catalog };
                let changed = change.reconfigure().await;
                *fully_applied &= changed.as_ref().err().is_none_or(|it| !it.has_begun());
                changed.map_err(NotApplied::into_error)?;
            }
            anyhow::Ok(Some(spec))
        };
        let fetched = tokio::select! {
            biased;
            () = driver.stop.requested.cancelled() => return Ok(Flow::Stopped),
            status = self.postgres.wait() => return Ok(Flow::Exited(status)),
            () = until_ending(&node) => return Ok(Flow::GoOn),
            fetched = work => fetched?,
        };
        let Some(spec) = fetched else { return Ok(Flow::Detached) };
        if same_but_for_tokens(&spec.spec().spec, &self.in_force.spec().spec) {
            node.rest_from_refreshes();
        }
        self.applied(&spec);
        unseen::begin(&node);
        Ok(Flow::GoOn)
    }

    /// Waits after a failed refresh. `None`: the pause is over, or another refresh was requested.
    async fn pause(&mut self, pause: Duration) -> Option<Flow> {
        let over = tokio::time::Instant::now() + pause;
        loop {
            let driver = &mut *self.driver;
            let event = tokio::select! {
                biased;
                () = driver.stop.requested.cancelled() => return Some(Flow::Stopped),
                status = self.postgres.wait() => return Some(Flow::Exited(status)),
                () = until_ending(&driver.node) => return Some(Flow::GoOn),
                () = driver.node.refresh_asked() => return None,
                () = tokio::time::sleep_until(over) => return None,
                // A promotion must not wait for a configuration that never comes.
                attempt = driver.node.promotion.asked() => DriverEvent::Promotion(attempt),
                pair = driver.tls.changed() => DriverEvent::Certificate(pair),
            };
            let flow = match event {
                DriverEvent::Promotion(attempt) => self.promote(attempt).await,
                DriverEvent::Certificate(pair) => self.renew(&pair).await,
                _ => Flow::GoOn,
            };
            match flow {
                Flow::GoOn => {}
                flow => return Some(flow),
            }
        }
    }
}

/// Resolves when `/terminate` was accepted; the request itself is in the queue.
pub(super) async fn until_ending(node: &ComputeNode) {
    let mut status = node.watch_status();
    // The sender is in the node, which the caller holds.
    let _ = status.wait_for(|status| status.is_ending()).await;
}
