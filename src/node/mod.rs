//! What all tasks share: the parameters of the process and the guarded state of the compute.
//!
//! The state is behind one mutex that is never held across an await. Only [`ComputeNode::apply`]
//! changes the status: it puts an event through the transition table, logs the change, sets the
//! metric and wakes everybody who waits, so none of these can be forgotten (01 §24 no. 21).

mod activity;
pub mod attribution;
pub mod background;
pub mod documents;
pub mod gate;
pub mod heartbeat;
mod lakebase;
pub mod phase;
pub mod progress;
pub mod requests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use url::{Host, Url};

use crate::os::children::Children;
use crate::postgres::conf::{ConfError, ConfFile, ConfInputs};
use crate::postgres::files;
use crate::postgres::install::PgInstall;
use crate::services::SideDaemons;
use crate::services::extensions::ExtensionStore;
use crate::services::lfc::Lfc;
use crate::services::side::SideParams;
use crate::spec::source::ConfigSource;
use crate::spec::wire::TlsConfig;
use crate::spec::{ComputeSpec, ParsedSpec};
use crate::state::{ComputeStatus, Event, TerminateMode, transition};
use crate::storage::Progress;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;
use crate::timeouts::Timeouts;
use crate::tls;
use background::Background;
pub use documents::{
    ActivityReason, FailedOperation, StartupMetrics, StatusDocument, StatusExtra, millis,
};
use gate::CatalogGate;
use heartbeat::Heartbeat;
pub use lakebase::Lakebase;
use phase::PhaseRecord;
pub use progress::PhaseGuard;
pub use requests::{ConfigureError, TerminateAnswer, WrongStatus};
use requests::{Request, Terminated};

/// Where Postgres listens unless told otherwise.
const POSTGRES_PORT: u16 = 5432;

/// Fixed for the life of the process.
#[derive(Debug)]
pub struct ComputeParams {
    /// `--compute-id`; absent only in the older `--spec` form.
    pub compute_id: Option<String>,
    /// `--pgdata`, absolute.
    pub pgdata: PathBuf,
    /// `--connstr`. May carry a password: never logged.
    pub connstr: Url,
    /// The Postgres installation behind `--pgbin`.
    pub install: PgInstall,
    /// `--privileged-role-name`.
    pub privileged_role_name: String,
    /// `--internal-http-port`, or what Lakebase mode makes of `--http-port`.
    pub internal_http_port: u16,
    /// Where the configuration came from; a refresh reads it again.
    pub source: ConfigSource,
    /// `--force-wipe`: PGDATA may hold anything.
    pub force_wipe: bool,
    /// `--dev`: pgbouncer and local_proxy are left alone, loopback needs no token without keys.
    pub dev: bool,
    /// Key and certificate of Postgres and its neighbours, from the configuration that the process
    /// was started with (04 §7.1).
    pub tls: Option<TlsConfig>,
    /// `--lakebase-mode true`.
    pub lakebase: Option<Lakebase>,
    /// `AUTOSCALING` is in the environment: children run in the cgroup.
    pub autoscaling: bool,
    /// `--signal-exit-code`.
    pub signal_exit_code: u8,
    /// `--remote-ext-base-url`.
    pub remote_ext_base_url: Option<Url>,
    /// `--installed-extensions-collection-interval`, in seconds.
    pub extension_stats_interval: u64,
    /// Programs beside Postgres.
    pub side: SideParams,
    /// All deadlines.
    pub timeouts: Timeouts,
}

#[cfg(test)]
impl ComputeParams {
    /// Parameters for unit tests: nothing that they name exists.
    pub(crate) fn for_tests() -> Self {
        use crate::postgres::install::PgVersion;
        Self {
            compute_id: Some("c1".to_owned()),
            pgdata: "/nonexistent".into(),
            connstr: Url::parse("postgresql://cloud_admin@localhost/postgres").unwrap(),
            install: PgInstall {
                postgres: "/nonexistent/postgres".into(),
                bin_dir: "/nonexistent".into(),
                version: PgVersion::V17,
                pkglibdir: None,
                sharedir: None,
            },
            privileged_role_name: "neon_superuser".to_owned(),
            internal_http_port: 0,
            source: ConfigSource::ConfigFile("/nonexistent".into()),
            tls: None,
            lakebase: None,
            force_wipe: false,
            dev: false,
            autoscaling: false,
            signal_exit_code: 1,
            remote_ext_base_url: None,
            extension_stats_interval: 3600,
            side: crate::services::side::SideParams::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl ComputeParams {
    /// The certificate's files, if TLS is active for a spec (04 §7.1).
    pub fn active_tls(&self, spec: &ComputeSpec) -> Option<&TlsConfig> {
        tls::active_config(self.tls.as_ref(), spec)
    }

    /// Where Postgres is reached over TCP, by `--connstr`; none if that names a socket.
    pub async fn server_address(&self) -> Option<SocketAddr> {
        let host = match self.connstr.host()? {
            // Of a URL whose scheme is not one of the web's, as it was written.
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = self.connstr.port().unwrap_or(POSTGRES_PORT);
        tokio::net::lookup_host((host, port)).await.ok()?.next()
    }

    /// `postgresql.conf` of this compute for a spec, as a value. Whatever cannot be written is
    /// found here, while nothing is touched: before the start, and before a new spec is accepted.
    pub fn conf(&self, spec: &ComputeSpec) -> Result<ConfFile, ConfError> {
        let inputs = ConfInputs {
            privileged_role_name: &self.privileged_role_name,
            internal_http_port: self.internal_http_port,
            overcommit_strict: files::overcommit_is_strict(),
            tls: self.active_tls(spec).is_some(),
            lakebase_port: self
                .lakebase
                .as_ref()
                .map(|_| self.connstr.port().unwrap_or(POSTGRES_PORT)),
        };
        ConfFile::build(spec, &inputs)
    }
}

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
    apply_report: Option<Arc<serde_json::Value>>,
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
    /// Whoever changes catalogs takes a turn.
    pub catalog: CatalogGate,
    /// What runs beside the driver while Postgres does.
    pub background: Background,
    /// Ticks as long as the driver's task is not stuck.
    pub heartbeat: Heartbeat,
    /// Extensions that are fetched.
    pub extensions: ExtensionStore,
    /// Prewarm and offload of the local file cache.
    pub lfc: Lfc,
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
        spec: Option<Arc<ParsedSpec>>,
        children: Children,
        log: LogSink,
        metrics: Metrics,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Request>) {
        let status = if spec.is_some() { ComputeStatus::Init } else { ComputeStatus::Empty };
        metrics.set_status(status);
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
        let side = SideDaemons::new(params.side.clone(), &params.timeouts);
        let extensions = ExtensionStore::new(
            params.remote_ext_base_url.clone(),
            &params.install,
            params.timeouts.extensions.clone(),
            &metrics,
        );
        let lfc = Lfc::new(&params.connstr, params.install.version, &params.timeouts, &metrics);
        let node = Self {
            params,
            children,
            log,
            metrics,
            basebackup: Progress::default(),
            side,
            catalog: CatalogGate::default(),
            background: Background::default(),
            heartbeat: Heartbeat::default(),
            extensions,
            lfc,
            state: Arc::new(Mutex::new(state)),
            spec: watch::Sender::new(spec),
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The start failed: status and error text change together, so that nobody sees `failed`
    /// without a reason.
    pub fn fail(&self, error: String) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        state.last_failure = Some(state.failed_operation(self.operation(), error.clone()));
        state.error = Some(error);
        self.apply_locked(&mut state, Event::Failed)
    }

    /// A reconfiguration failed: as [`Self::fail`], and the spec that is in force is the one from
    /// before.
    pub fn fail_back(
        &self,
        error: String,
        spec: Arc<ParsedSpec>,
    ) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        // The operation is that of the spec that failed.
        state.last_failure = Some(state.failed_operation(self.operation(), error.clone()));
        state.error = Some(error);
        self.spec.send_replace(Some(spec));
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
    pub fn replace_spec(&self, spec: Arc<ParsedSpec>) {
        let _state = self.lock();
        self.spec.send_replace(Some(spec));
    }

    /// Asks for a spec to be applied and waits until the compute runs with it or has failed. The
    /// work goes on if the caller goes away.
    pub async fn configure(&self, spec: ParsedSpec) -> Result<StatusDocument, ConfigureError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            self.apply_locked(&mut state, Event::Configure)?;
            let spec = Arc::new(spec);
            self.spec.send_replace(Some(Arc::clone(&spec)));
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
