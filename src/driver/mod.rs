//! The driver: the one task that changes the compute.
//!
//! It takes a compute through its life: wait for a spec, start, supervise (Postgres' own exit, new
//! specs, refreshes), end. One thing at a time; whatever is being done is given up when a signal
//! comes, and everything that waits inside it has a deadline. How it ends is in [`mod@ending`].
//!
//! Every `select!` looks for a signal first, so that nothing new is begun after one.

pub mod ending;
pub mod reconfigure;
pub mod stop;

use std::process::ExitStatus;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use crate::errors::report;
use crate::node::ComputeNode;
use crate::node::requests::{ConfigureFailed, Request, Terminated};
use crate::postgres::process::PostgresProcess;
use crate::spec::ParsedSpec;
use crate::startup::{self, Leftovers};
use crate::state::Event;
use crate::storage::lease;
use crate::tls::{TlsPair, TlsState};
use ending::Ending;
pub use stop::Stop;

/// Who waits for the first start.
type ConfigureReply = Option<oneshot::Sender<Result<(), ConfigureFailed>>>;

/// The task and what it alone holds.
#[derive(Debug)]
pub struct Driver {
    node: Arc<ComputeNode>,
    requests: mpsc::UnboundedReceiver<Request>,
    stop: Stop,
    leftovers: Leftovers,
    tls: TlsState,
    /// The spec that is wholly in force; none after a failed reconfiguration.
    applied: Option<Arc<ParsedSpec>>,
}

/// What happens to a running compute.
enum Turn {
    Exited(std::io::Result<ExitStatus>),
    Asked(Request),
    Certificate(Arc<TlsPair>),
    Stopped,
}

impl Driver {
    /// The receiver is the one that came with the node.
    pub fn new(
        node: Arc<ComputeNode>,
        requests: mpsc::UnboundedReceiver<Request>,
        stop: Stop,
    ) -> Self {
        let tls = node.params.tls.clone();
        let tls = TlsState::new(tls, node.params.timeouts.tls, node.metrics.clone());
        Self { node, requests, stop, leftovers: Leftovers::default(), tls, applied: None }
    }

    /// From the first spec to the end of the compute. Returns the exit code of the process.
    pub async fn run(mut self) -> u8 {
        let ending = match self.first_spec().await {
            Ok((spec, reply)) => {
                let node = &self.node;
                let _leases = lease::start(
                    node.watch_spec(),
                    node.params.timeouts.lease,
                    node.metrics.leases.clone(),
                );
                self.start_and_supervise(spec, reply).await
            }
            Err(ending) => ending,
        };
        self.end(ending).await
    }

    /// The spec at hand, or the one that `/configure` brings.
    async fn first_spec(&mut self) -> Result<(Arc<ParsedSpec>, ConfigureReply), Ending> {
        if let Some(spec) = self.node.spec() {
            return Ok((spec, None));
        }
        tracing::info!("no spec yet, waiting for /configure");
        loop {
            let request = tokio::select! {
                biased;
                () = self.stop.requested.cancelled() => None,
                request = self.requests.recv() => request,
            };
            match request {
                Some(Request::Configure { spec, reply }) => {
                    // Fails only if a signal came in between, which is noticed right after.
                    let _ = self.node.begin_start();
                    return Ok((spec, Some(reply)));
                }
                Some(Request::Terminate { reply }) => return Err(Ending::NeverStarted { reply }),
                Some(Request::Refresh) => {}
                None => return Err(Ending::Signal { postgres: None }),
            }
        }
    }

    async fn start_and_supervise(
        &mut self,
        spec: Arc<ParsedSpec>,
        mut reply: ConfigureReply,
    ) -> Ending {
        let mut postgres = None;
        let outcome = tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => return Ending::Signal { postgres },
            outcome = startup::start(
                &self.node, &spec, &mut self.tls, &mut self.leftovers, &mut postgres,
            ) => outcome,
        };
        let outcome = outcome.and_then(|()| postgres.take().context("Postgres was not started"));
        match outcome {
            Ok(running) => {
                startup::finish(&self.node, running.pid());
                self.applied = Some(spec);
                if let Some(reply) = reply.take() {
                    let _ = reply.send(Ok(()));
                }
                self.leftovers.delete_in_background();
                self.supervise(running).await
            }
            Err(error) => Ending::StartFailed { error, postgres, reply },
        }
    }

    /// Serves requests until Postgres or somebody else wants the end.
    async fn supervise(&mut self, mut postgres: PostgresProcess) -> Ending {
        loop {
            let turn = tokio::select! {
                biased;
                () = self.stop.requested.cancelled() => Turn::Stopped,
                status = postgres.wait() => Turn::Exited(status),
                // The node holds a sender, so this ends only with the node.
                Some(request) = self.requests.recv() => Turn::Asked(request),
                pair = self.tls.changed() => Turn::Certificate(pair),
            };
            let done = match turn {
                Turn::Exited(status) => return Ending::PostgresExited { status, postgres },
                Turn::Stopped => return Ending::Signal { postgres: Some(postgres) },
                Turn::Asked(Request::Terminate { reply }) => {
                    return Ending::Terminate { postgres, reply };
                }
                Turn::Asked(Request::Configure { spec, reply }) => {
                    self.configure(&mut postgres, &spec, reply).await
                }
                Turn::Asked(Request::Refresh) => self.refresh(&mut postgres).await,
                Turn::Certificate(pair) => {
                    self.renew(postgres.pid(), &pair);
                    Done::GoOn
                }
            };
            match done {
                Done::GoOn => {}
                Done::Exited(status) => return Ending::PostgresExited { status, postgres },
                Done::Stopped => return Ending::Signal { postgres: Some(postgres) },
                Done::Detached => return Ending::Detached { postgres },
            }
        }
    }

    /// A new spec for a running compute.
    async fn configure(
        &mut self,
        postgres: &mut PostgresProcess,
        spec: &Arc<ParsedSpec>,
        reply: oneshot::Sender<Result<(), ConfigureFailed>>,
    ) -> Done {
        if self.node.apply(Event::BeginConfiguration).is_err() {
            return Done::GoOn;
        }
        let postmaster = postgres.pid();
        let result = tokio::select! {
            biased;
            () = self.stop.requested.cancelled() => return Done::Stopped,
            status = postgres.wait() => return Done::Exited(status),
            result = reconfigure::apply(&self.node, spec, &mut self.tls, postmaster) => result,
        };
        let answer = match result {
            Ok(()) => {
                self.applied = Some(Arc::clone(spec));
                let _ = self.node.apply(Event::Succeeded);
                Ok(())
            }
            Err(error) => {
                self.applied = None;
                let text = report(&error);
                tracing::error!("could not apply the new spec: {text}");
                let _ = self.node.fail(text.clone());
                Err(ConfigureFailed(text))
            }
        };
        let _ = reply.send(answer);
        Done::GoOn
    }

    /// Another certificate for a running compute (01 §15). When it cannot be installed the compute
    /// runs on with the one it has, and it is tried again later; so it does not become `failed`.
    fn renew(&mut self, postmaster: i32, pair: &Arc<TlsPair>) {
        let round = self.node.begin_certificate();
        if let Err(error) = reconfigure::renew(&self.node, &mut self.tls, pair, postmaster) {
            tracing::error!("could not renew the TLS certificate, will retry: {}", report(&error));
        }
        self.node.side.certificate_renewed();
        if round.is_ok() {
            let _ = self.node.apply(Event::Succeeded);
        }
    }

    /// Fetches the configuration again and applies it if it is another one (01 §13.3). Tries again
    /// with growing pauses, until it works or something else is wanted.
    async fn refresh(&mut self, postgres: &mut PostgresProcess) -> Done {
        let mut pause = self.node.params.timeouts.refresh_pause;
        let postmaster = postgres.pid();
        loop {
            if self.node.apply(Event::BeginRefresh).is_err() {
                // A second request while the first was served, or the end has come.
                return Done::GoOn;
            }
            let result = tokio::select! {
                biased;
                () = self.stop.requested.cancelled() => return Done::Stopped,
                status = postgres.wait() => return Done::Exited(status),
                () = ending(&self.node) => return Done::GoOn,
                result = reconfigure::refresh(
                    &self.node, self.applied.as_ref(), &mut self.tls, postmaster,
                ) => result,
            };
            match result {
                Ok(reconfigure::Refreshed::Done(spec)) => {
                    self.applied = Some(spec);
                    let _ = self.node.apply(Event::Succeeded);
                    return Done::GoOn;
                }
                Ok(reconfigure::Refreshed::Detached) => return Done::Detached,
                Err(error) => {
                    self.applied = None;
                    let text = report(&error);
                    tracing::error!("could not refresh the configuration, will retry: {text}");
                    let _ = self.node.fail(text);
                }
            }
            tokio::select! {
                biased;
                () = self.stop.requested.cancelled() => return Done::Stopped,
                status = postgres.wait() => return Done::Exited(status),
                () = ending(&self.node) => return Done::GoOn,
                () = tokio::time::sleep(pause) => {}
                pair = self.tls.changed() => self.renew(postmaster, &pair),
            }
            pause = (pause * 2).min(self.node.params.timeouts.refresh_pause_max);
        }
    }
}

/// Resolves when `/terminate` was accepted; the request itself is in the queue.
async fn ending(node: &ComputeNode) {
    let mut status = node.watch_status();
    // The sender is in the node, which the caller holds.
    let _ = status.wait_for(|status| status.is_ending()).await;
}

/// How a piece of work on a running compute ended.
enum Done {
    GoOn,
    Exited(std::io::Result<ExitStatus>),
    Stopped,
    Detached,
}

/// Answer of a compute whose end has no LSN.
const NO_LSN: Terminated = Terminated { lsn: None };
