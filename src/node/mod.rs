//! What all tasks share: the parameters of the process and the guarded state of the compute.
//!
//! The state is behind one mutex that is never held across an await. Only [`ComputeNode::apply`]
//! changes the status: it puts an event through the transition table, logs the change, sets the
//! metric and wakes everybody who waits, so none of these can be forgotten (01 §24 no. 21).

mod accepted;
mod activity;
pub(crate) mod attribution;
pub(crate) mod catalog_turn;
mod conf_params;
pub(crate) mod documents;
pub(crate) mod heartbeat;
mod lakebase;
mod params;
pub mod phase;
pub(crate) mod progress;
pub(crate) mod promotion;
pub(crate) mod requests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::background::Background;
use crate::catalog::report::ApplyReport;
use crate::duration::millis;
use crate::node::promotion::attempt::Promotion;
use crate::os::children::Children;
use crate::services::extensions::ExtensionStore;
use crate::services::lfc::Lfc;
use crate::services::monitor::activity::ActivityReason;
use crate::sidecars::SideDaemons;
use crate::spec::ParsedSpec;
use crate::state::{ComputeStatus, Event, TerminateMode, transition};
use crate::storage::Progress;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;

pub use accepted::AcceptedSpec;
use catalog_turn::CatalogTurns;
pub use conf_params::ConfParams;
pub use documents::{FailedOperation, StartupMetrics, StatusDocument, StatusExtra};
use heartbeat::Heartbeat;
pub use lakebase::Lakebase;
pub use params::ComputeParams;
use phase::PhaseRecord;
pub use progress::PhaseGuard;
pub use requests::{ConfigureError, TerminateAnswer, WrongStatus};
use requests::{Request, Terminated};

/// The guarded state.
#[derive(Debug)]
pub struct ComputeState {
    status: ComputeStatus,
    start_time: DateTime<Utc>,
    started: Instant,
    error: Option<String>,
    last_active: Option<DateTime<Utc>>,
    /// What was seen of it.
    activity: Vec<ActivityReason>,
    metrics: StartupMetrics,
    phases: Vec<PhaseRecord>,
    /// How long the start took, whatever became of it; none before its end.
    start_took: Option<Duration>,
    /// What is being done to a running compute.
    step: Option<&'static str>,
    /// Phase in which the work in progress failed.
    failed_phase: Option<&'static str>,
    last_failure: Option<FailedOperation>,
    applied_operation: Option<String>,
    apply_report: Option<Arc<ApplyReport>>,
    terminated: Option<Terminated>,
}

/// The compute as all tasks see it.
#[derive(Debug)]
pub struct ComputeNode {
    /// Fixed for the life of the process.
    pub params: ComputeParams,
    /// Children of the process.
    pub children: Children,
    /// Where all log lines go.
    pub log: LogSink,
    /// Metric families.
    pub metrics: Metrics,
    /// How far the basebackup is.
    pub basebackup: Progress,
    /// Programs beside Postgres.
    pub side: SideDaemons,
    /// What changes catalogs takes a turn.
    pub catalog_turns: CatalogTurns,
    /// What runs beside the driver while Postgres does.
    pub background: Background,
    /// Ticks as long as the driver's task is not stuck.
    pub heartbeat: Heartbeat,
    /// Extensions that are fetched.
    pub extensions: ExtensionStore,
    /// Prewarm and offload of the local file cache.
    pub lfc: Lfc,
    /// From a replica to a primary.
    pub promotion: Promotion,
    state: Arc<Mutex<ComputeState>>,
    /// Replaced under the lock of the state only.
    spec: watch::Sender<Option<Arc<ParsedSpec>>>,
    changed: watch::Sender<ComputeStatus>,
    phase_changed: watch::Sender<usize>,
    requests: mpsc::UnboundedSender<Request>,
    /// Not a request in the queue: several that nobody has served yet are one.
    refresh_asked: Notify,
}

impl ComputeNode {
    /// A compute with a spec starts as `init`, never visibly `empty` (01 §24 no. 20). The receiver
    /// is the driver's.
    pub fn new(
        params: ComputeParams,
        spec: Option<&AcceptedSpec>,
        children: Children,
        log: LogSink,
        metrics: Metrics,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Request>) {
        let status = if spec.is_some() { ComputeStatus::Init } else { ComputeStatus::Empty };
        metrics.set_status(status);
        if let Some(spec) = &spec {
            params.show_attached(&metrics, spec.spec());
        }
        let state = ComputeState {
            status,
            start_time: Utc::now(),
            started: Instant::now(),
            error: None,
            last_active: None,
            activity: Vec::new(),
            metrics: StartupMetrics::default(),
            phases: Vec::new(),
            start_took: None,
            step: None,
            failed_phase: None,
            last_failure: None,
            applied_operation: None,
            apply_report: None,
            terminated: None,
        };
        let (requests, receiver) = mpsc::unbounded_channel();
        let side = SideDaemons::new(params.side.clone(), params.timeouts.sidecars);
        let background = Background::default();
        let extensions = ExtensionStore::new(
            params.remote_ext_base_url.clone(),
            &params.install,
            params.timeouts.extensions.clone(),
            &metrics,
            &background,
        );
        let lfc = Lfc::new(
            params.connstr.clone(),
            params.install.version,
            params.timeouts.sql,
            params.timeouts.lfc,
            &metrics,
            &background,
        );
        let node = Self {
            params,
            children,
            log,
            metrics,
            basebackup: Progress::default(),
            side,
            catalog_turns: CatalogTurns::default(),
            background,
            heartbeat: Heartbeat::default(),
            extensions,
            lfc,
            promotion: Promotion::default(),
            state: Arc::new(Mutex::new(state)),
            spec: watch::Sender::new(spec.map(|spec| Arc::clone(spec.spec()))),
            changed: watch::Sender::new(status),
            phase_changed: watch::Sender::new(0),
            requests,
            refresh_asked: Notify::new(),
        };
        (Arc::new(node), receiver)
    }

    /// A panic while the lock is held must not make every later request fail (03 W3); the state is
    /// plain data and whole at any moment.
    fn lock(&self) -> MutexGuard<'_, ComputeState> {
        self.state.lock()
    }

    /// Puts an event through the transition table, under the lock that the caller holds.
    fn apply_locked(
        &self,
        state: &mut ComputeState,
        event: Event,
    ) -> Result<ComputeStatus, WrongStatus> {
        let from = state.status;
        let to = transition(from, event).ok_or(WrongStatus(from))?;
        if event == Event::Succeeded {
            state.step = None;
            state.applied_operation = self.operation();
            // What failed before is over; `extra.last_failure` still tells of it.
            state.error = None;
            state.failed_phase = None;
        }
        if to != from {
            if from == ComputeStatus::Init {
                state.start_took = Some(state.started.elapsed());
            }
            state.status = to;
            tracing::info!("compute status changed from {from} to {to}");
            self.metrics.set_status(to);
        }
        if to.is_ending() {
            // Whatever was being done is given up.
            state.step = None;
        }
        self.changed.send_replace(to);
        Ok(to)
    }

    /// Puts an event through the transition table.
    pub fn apply(&self, event: Event) -> Result<ComputeStatus, WrongStatus> {
        self.apply_locked(&mut self.lock(), event)
    }

    /// Present status.
    pub fn status(&self) -> ComputeStatus {
        self.lock().status
    }

    /// For what can be done in one state only (03 §2).
    pub fn require(&self, wanted: ComputeStatus) -> Result<(), WrongStatus> {
        let status = self.status();
        if status == wanted { Ok(()) } else { Err(WrongStatus(status)) }
    }

    /// Follows the status; a change that is undone at once may be missed.
    pub fn watch_status(&self) -> watch::Receiver<ComputeStatus> {
        self.changed.subscribe()
    }

    /// The spec in force.
    pub fn spec(&self) -> Option<Arc<ParsedSpec>> {
        self.spec.borrow().clone()
    }

    /// Follows the spec in force.
    pub fn watch_spec(&self) -> watch::Receiver<Option<Arc<ParsedSpec>>> {
        self.spec.subscribe()
    }

    /// Document of `GET /status`.
    pub fn status_document(&self) -> StatusDocument {
        let state = self.lock();
        let spec = self.spec();
        StatusDocument {
            start_time: state.start_time,
            tenant: spec.as_ref().map(|spec| spec.tenant_id),
            timeline: spec.as_ref().map(|spec| spec.timeline_id),
            status: state.status,
            last_active: state.last_active,
            error: state.error.clone(),
            extra: self.extra(&state),
        }
    }

    /// Document of `GET /metrics.json`.
    pub fn startup_metrics(&self) -> StartupMetrics {
        self.lock().metrics
    }

    /// Sets members of `/metrics.json`.
    pub fn update_metrics(&self, update: impl FnOnce(&mut StartupMetrics)) {
        update(&mut self.lock().metrics);
    }

    /// Since `start_time`, by the monotonic clock (01 §24 no. 14).
    pub fn elapsed(&self) -> Duration {
        self.lock().started.elapsed()
    }

    /// Under the lock of the state, which the caller holds.
    fn set_spec(&self, spec: &AcceptedSpec) {
        self.params.show_attached(&self.metrics, spec.spec());
        self.spec.send_replace(Some(Arc::clone(spec.spec())));
    }

    /// The start failed: status and error text change together, so that nobody sees `failed`
    /// without a reason.
    pub fn fail(&self, error: String) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        state.last_failure = Some(state.failed_operation(self.operation(), error.clone()));
        state.error = Some(error);
        self.apply_locked(&mut state, Event::Failed)
    }

    /// A reconfiguration failed: as [`Self::fail`], and the spec that is in force is the one from
    /// before. `operation` is that of the spec that was to be applied.
    pub fn fail_back(
        &self,
        error: String,
        operation: Option<String>,
        spec: &AcceptedSpec,
    ) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        state.last_failure = Some(state.failed_operation(operation, error.clone()));
        state.error = Some(error);
        self.set_spec(spec);
        self.apply_locked(&mut state, Event::Failed)
    }

    /// The end: status and LSN change together.
    pub fn end(
        &self,
        terminated: Terminated,
        error: Option<String>,
    ) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        state.terminated = Some(terminated);
        if error.is_some() {
            state.error = error;
        }
        self.apply_locked(&mut state, Event::Ended)
    }

    /// The spec of a compute that started empty has come: the clock of `/status` and of
    /// `total_startup_ms` starts anew (01 §7).
    pub fn begin_start(&self) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        let waited = state.started.elapsed();
        let status = self.apply_locked(&mut state, Event::BeginStart)?;
        state.metrics.wait_for_spec_ms = millis(waited);
        state.started = Instant::now();
        state.start_time = Utc::now();
        Ok(status)
    }

    /// The TLS certificate changed. Only a running compute goes through a round of its own: one
    /// that is being configured takes the certificate along.
    pub fn begin_certificate(&self) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        if state.status != ComputeStatus::Running {
            return Err(WrongStatus(state.status));
        }
        self.apply_locked(&mut state, Event::CertificateChanged)?;
        self.apply_locked(&mut state, Event::BeginConfiguration)
    }

    /// A refresh brought another spec; nothing of the old one is kept (01 §5.3).
    pub fn replace_spec(&self, spec: &AcceptedSpec) {
        let _state = self.lock();
        self.set_spec(spec);
    }

    /// Asks for a spec to be applied and waits until the compute runs with it or has failed. The
    /// work goes on if the caller goes away.
    pub async fn configure(&self, spec: AcceptedSpec) -> Result<StatusDocument, ConfigureError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            self.apply_locked(&mut state, Event::Configure)?;
            self.set_spec(&spec);
            self.request(Request::Configure { spec, reply });
        }
        match answer.await {
            Ok(Ok(())) => Ok(self.status_document()),
            Ok(Err(failed)) => Err(ConfigureError::Failed(failed.0)),
            Err(_) => Err(ConfigureError::Interrupted),
        }
    }

    /// Asks for the end and waits until the compute is `terminated`.
    pub async fn terminate(&self, mode: TerminateMode) -> Result<TerminateAnswer, WrongStatus> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            if let Some(terminated) = state.terminated {
                return Ok(TerminateAnswer::Before(terminated));
            }
            self.apply_locked(&mut state, Event::Terminate(mode))?;
            self.request(Request::Terminate { reply });
        }
        Ok(answer.await.map_or(TerminateAnswer::Interrupted, TerminateAnswer::Now))
    }

    /// Asks for the configuration to be fetched again; does not wait.
    pub fn refresh(&self) -> Result<(), WrongStatus> {
        if self.apply(Event::Refresh)? == ComputeStatus::RefreshConfigurationPending {
            self.refresh_asked.notify_one();
        }
        Ok(())
    }

    /// Waits until somebody has asked for a refresh; for the driver alone.
    pub async fn refresh_asked(&self) {
        self.refresh_asked.notified().await;
    }

    /// The receiver lives as long as the driver; after that nobody asks any more, and a request
    /// that slips in is dropped together with the sender of its answer.
    fn request(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}
