//! What all tasks share: the parameters of the process and the guarded state of the compute.
//!
//! The state is behind one mutex that is never held across an await. Only [`ComputeNode::apply`]
//! changes the status: it puts an event through the transition table, logs the change, sets the
//! metric and wakes all waiters, so none of these can be forgotten (01 §24 no. 21).

mod accepted;
mod activity;
pub(crate) mod attribution;
pub(crate) mod catalog_turn;
mod conf_params;
mod connstr;
pub(crate) mod details;
pub(crate) mod documents;
mod given;
pub(crate) mod heartbeat;
pub(crate) mod history;
mod lakebase;
pub(crate) mod outcome;
mod params;
pub mod phase;
mod port;
pub(crate) mod progress;
pub(crate) mod promotion;
pub mod readiness;
mod refresh;
pub(crate) mod requests;
mod rest;
mod scrape;
pub(crate) mod startable;
pub(crate) mod unseen;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::background::Background;
use crate::catalog::report::ApplyReport;
use crate::duration::millis;
use crate::errors::{one_line, report};
use crate::node::promotion::attempt::Promotion;
use crate::os::children::Children;
use crate::services::extensions::ExtensionStore;
use crate::services::lfc::Lfc;
use crate::services::monitor::activity::ActivityReason;
use crate::sidecars::Sidecars;
use crate::spec::ParsedSpec;
use crate::state::{ComputeStatus, Event, TerminateMode, transition};
use crate::storage::Progress;
use crate::storage::tries::Tries;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;
use crate::telemetry::traces;
use crate::vm_monitor::board::Board;

pub use accepted::AcceptedSpec;
use catalog_turn::CatalogTurns;
pub use conf_params::ConfParams;
pub use connstr::{UnusableConnstr, parse_connstr_of};
pub use details::Details;
pub use documents::{FailedOperation, StartupMetrics, StatusDocument, StatusExtra};
use heartbeat::Heartbeat;
use history::History;
pub use lakebase::{CORE_DUMPS, Lakebase};
pub use params::{ComputeParams, HostNames};
use phase::PhaseRecord;
pub use port::{OtherPort, check_port};
pub use progress::PhaseGuard;
use readiness::{Readiness, Unready};
pub use requests::{ConfigureError, TerminateAnswer, WrongStatus};
use requests::{Request, Terminated};
use rest::RefreshState;
use unseen::UnseenDatabases;

/// The guarded state.
#[derive(Debug)]
pub struct ComputeState {
    status: ComputeStatus,
    start_time: DateTime<Utc>,
    started: Instant,
    error: Option<String>,
    last_active: Option<DateTime<Utc>>,
    /// The reasons behind `last_active`.
    activity: Vec<ActivityReason>,
    metrics: StartupMetrics,
    phases: Vec<PhaseRecord>,
    /// Duration of the start, successful or not; `None` before it ends.
    start_took: Option<Duration>,
    /// When the work on a running compute began, if that is to apply a spec.
    applying: Option<Instant>,
    /// Step of the work on a running compute.
    step: Option<&'static str>,
    /// Phase in which the work in progress failed.
    failed_phase: Option<&'static str>,
    last_failure: Option<FailedOperation>,
    history: History,
    applied_operation: Option<String>,
    apply_report: Option<Arc<ApplyReport>>,
    terminated: Option<Terminated>,
    refresh: RefreshState,
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
    /// Peers that are being asked.
    pub tries: Tries,
    /// Progress of the basebackup.
    pub basebackup: Progress,
    /// Programs beside Postgres.
    pub side: Sidecars,
    /// Turns for changes to the catalogs.
    pub catalog_turns: CatalogTurns,
    /// Databases to look into in the background.
    pub unseen: UnseenDatabases,
    /// Tasks that run beside the driver while Postgres runs.
    pub background: Background,
    /// Ticks unless the driver's task is stuck.
    pub heartbeat: Heartbeat,
    /// Whether clients can be sent here.
    pub readiness: Readiness,
    /// Downloadable extensions.
    pub extensions: ExtensionStore,
    /// Prewarm and offload of the local file cache.
    pub lfc: Lfc,
    /// Promotion of the replica to a primary.
    pub promotion: Promotion,
    /// What the VM monitor shows of itself, once it has started.
    pub vm_monitor: OnceLock<Arc<Board>>,
    pub(crate) status_text: documents::StatusText,
    state: Arc<Mutex<ComputeState>>,
    /// Replaced only under the lock of the state.
    spec: watch::Sender<Option<Arc<ParsedSpec>>>,
    changed: watch::Sender<ComputeStatus>,
    phase_changed: watch::Sender<usize>,
    requests: mpsc::UnboundedSender<Request>,
    /// Coalesces refresh requests: any number of pending ones cause a single refresh.
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
        metrics.set_postgres(&params.install.full_version);
        let phases = attribution::attribute(&[], Duration::ZERO);
        metrics.start.declare(phases.into_iter().map(|(phase, _)| phase));
        if let Some(spec) = &spec {
            params.show_attached(&metrics, spec.spec());
            spec.tell(&log);
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
            applying: None,
            step: None,
            failed_phase: None,
            last_failure: None,
            history: History::new(status),
            applied_operation: None,
            apply_report: None,
            terminated: None,
            refresh: RefreshState::default(),
        };
        let (requests, receiver) = mpsc::unbounded_channel();
        let side = Sidecars::new(params.side.clone(), params.timeouts.sidecars);
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
        let tries = Tries::default();
        let node = Self {
            params,
            children,
            log,
            metrics,
            basebackup: Progress::shown_in(tries.clone()),
            tries,
            side,
            catalog_turns: CatalogTurns::default(),
            unseen: UnseenDatabases::default(),
            background,
            heartbeat: Heartbeat::default(),
            readiness: Readiness::new(spec.is_some()),
            extensions,
            lfc,
            promotion: Promotion::default(),
            vm_monitor: OnceLock::new(),
            status_text: documents::StatusText::default(),
            state: Arc::new(Mutex::new(state)),
            spec: watch::Sender::new(spec.map(|spec| Arc::clone(spec.spec()))),
            changed: watch::Sender::new(status),
            phase_changed: watch::Sender::new(0),
            requests,
            refresh_asked: Notify::new(),
        };
        (Arc::new(node), receiver)
    }

    /// Ignores poisoning: a panic while the lock is held must not make every later request fail
    /// (03 W3); the state is plain data and consistent at any moment.
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
            // The earlier failure is over; `extra.last_failure` still shows it.
            state.error = None;
            state.failed_phase = None;
        }
        if event == Event::Failed {
            // The way out of `failed` must not wait.
            state.refresh.rests_until = None;
        }
        self.measure(state, event);
        if to != from {
            if from == ComputeStatus::Init {
                state.start_took = Some(state.started.elapsed());
                if to == ComputeStatus::Running {
                    self.readiness.has_started();
                }
            }
            state.status = to;
            let failed_in = state.last_failure.as_ref().and_then(|failure| failure.phase);
            state.history.add(to, event, failed_in);
            tracing::info!("Changing compute status from {from} to {to}");
            self.metrics.set_status(to);
        }
        if to.is_ending() {
            // The current step is abandoned.
            state.step = None;
            self.readiness.ends(Unready::Ending);
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

    /// Checks the status, for operations that are legal in one status only (03 §2).
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

    /// Publishes a spec; the caller holds the lock of the state.
    fn set_spec(&self, spec: &AcceptedSpec) {
        self.params.show_attached(&self.metrics, spec.spec());
        spec.tell(&self.log);
        self.spec.send_replace(Some(Arc::clone(spec.spec())));
    }

    /// Ends the compute: status and LSN change together.
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

    /// Notes that a compute that started empty has its spec: the clock of `/status` and of
    /// `total_startup_ms` starts anew (01 §7).
    pub fn begin_start(&self) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        let waited = state.started.elapsed();
        let status = self.apply_locked(&mut state, Event::BeginStart)?;
        self.readiness.starts();
        state.metrics.wait_for_spec_ms = millis(waited);
        state.started = Instant::now();
        state.start_time = Utc::now();
        Ok(status)
    }

    /// Notes that the TLS certificate changed. Only a running compute gets a round of its own for
    /// it: one that is being configured takes the certificate along.
    pub fn begin_certificate(&self) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        if state.status != ComputeStatus::Running {
            return Err(WrongStatus(state.status));
        }
        self.apply_locked(&mut state, Event::CertificateChanged)?;
        let status = self.apply_locked(&mut state, Event::BeginConfiguration);
        // No spec is applied.
        state.applying = None;
        status
    }

    /// Replaces the spec after a refresh; nothing of the old one is kept (01 §5.3).
    pub fn replace_spec(&self, spec: &AcceptedSpec) {
        let _state = self.lock();
        self.set_spec(spec);
    }

    /// Asks for a spec to be applied and waits until the compute runs with it or does not. The
    /// work goes on if the caller goes away. `look_everywhere`: see [`Request::Configure`].
    ///
    /// # Errors
    /// See [`ConfigureError`].
    pub async fn configure(
        &self,
        spec: AcceptedSpec,
        look_everywhere: bool,
    ) -> Result<StatusDocument, ConfigureError> {
        if self.status() == ComputeStatus::Empty
            && let Err(error) = self.check_startable(&spec)
        {
            self.refuse_document(spec.operation(), report(&error));
            return Err(ConfigureError::Refused(one_line(error.as_ref())));
        }
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            self.apply_locked(&mut state, Event::Configure)?;
            self.set_spec(&spec);
            let from = traces::here();
            self.request(Request::Configure { spec, look_everywhere, from, reply });
        }
        match answer.await {
            Ok(Ok(())) => Ok(self.status_document()),
            Ok(Err(error)) => Err(error),
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
            self.request(Request::Terminate { from: traces::here(), reply });
        }
        Ok(answer.await.map_or(TerminateAnswer::Interrupted, TerminateAnswer::Now))
    }

    /// Queues a request for the driver. After the driver has ended, the request is dropped together
    /// with the sender of its answer.
    fn request(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}
