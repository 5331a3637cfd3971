//! The VM monitor (08): resizes the local file cache of Postgres with the memory of the virtual
//! machine, and asks its autoscaler for more. Only with `AUTOSCALING` in the environment.
//!
//! ```text
//! server ─► connection ─► protocol (text ↔ messages)
//!               │  ▲───── policy (when to ask, when to grant) ◄── cgroup (samples)
//!               └─► scaler ─► file_cache ─► SQL
//! ```
//!
//! The port is reserved before anything is touched, and opened when the compute is running. The
//! monitor ends after Postgres and before the final sync. Invariants: no failure of it affects the
//! compute; no agent can stop it; no limit of the cgroup is ever changed.

pub mod board;
pub mod cgroup;
mod connection;
mod file_cache;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod history;
mod limits;
mod policy;
mod protocol;
mod sampler;
mod scaler;
mod server;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::background::Background;
use crate::postgres::install::PgVersion;
use crate::secret::Secret;
use crate::server::{ReservedPort, ServerTasks, serve};
use crate::telemetry::metrics::Metrics;
use board::Board;
pub use board::VmMonitorStatus;
use cgroup::Reader;
use file_cache::FileCache;
pub use file_cache::FileCacheLimits;
pub use limits::VmMonitorLimits;
use policy::Summary;
use scaler::{MEMINFO, Parts, Scaler};
use shared::Shared;

/// The configuration, from the command line and the environment.
#[derive(Debug, Clone)]
pub struct VmMonitorParams {
    /// `--vm-monitor-addr`.
    pub address: SocketAddr,
    /// `--cgroup`.
    pub cgroup: String,
    /// Where cgroup v2 is mounted.
    pub cgroup_root: PathBuf,
    /// `--filecache-connstr`.
    pub filecache_connstr: Secret<String>,
}

/// A monitor that is not started. Its port is reserved, or an error says why not.
#[derive(Debug)]
pub struct VmMonitor {
    params: VmMonitorParams,
    port: io::Result<ReservedPort>,
}

impl VmMonitor {
    /// Reserves the port. A failure does not stop the compute: the start of the monitor tries
    /// again.
    pub fn reserve(params: VmMonitorParams) -> Self {
        let port = bind(params.address);
        Self { params, port }
    }

    /// Starts to serve. `manages_cache` is false with `disable_lfc_resizing` in the spec. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    /// Metrics with the same names exist.
    pub fn start(
        self,
        metrics: &Metrics,
        version: PgVersion,
        manages_cache: bool,
        limits: VmMonitorLimits,
    ) -> Result<RunningVmMonitor, prometheus::Error> {
        let Self { params, port } = self;
        let board = Arc::new(Board::new(metrics.vm_monitor()?));
        let background = Background::default();
        let reader = Reader::new(&params.cgroup_root, &params.cgroup);
        let path = reader
            .folder()
            .map_or_else(|| params.cgroup.clone(), |folder| folder.display().to_string());
        board.begins(path, manages_cache);
        let cache = manages_cache
            .then(|| FileCache::new(&params.filecache_connstr, version, limits.file_cache));
        let (jobs, receiver) = mpsc::unbounded_channel();
        let (sender, summaries) = watch::channel(Summary::none(Instant::now()));
        let scaler = Scaler::new(Parts {
            cache,
            reader,
            summaries: sender,
            every: limits.sample,
            meminfo: MEMINFO.into(),
            board: Arc::clone(&board),
            background: background.clone(),
        });
        background.spawn(scaler.run(receiver));
        let shared = Arc::new(Shared {
            limits,
            board: Arc::clone(&board),
            jobs,
            summaries,
            background: background.clone(),
            present: parking_lot::Mutex::default(),
        });
        let tasks = ServerTasks::default();
        let door = Door { address: params.address, shared, tasks: tasks.clone() };
        if let Err(error) = port.and_then(|port| door.open(port)) {
            door.say(&error);
            background.spawn(async move { door.open_later().await });
        }
        Ok(RunningVmMonitor { board, background, tasks })
    }
}

fn bind(address: SocketAddr) -> io::Result<ReservedPort> {
    ReservedPort::on_each(address.port(), &[address.ip()]).map_err(|failed| failed.error)
}

/// The port of a monitor.
struct Door {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: ServerTasks,
}

impl Door {
    fn open(&self, port: ReservedPort) -> io::Result<()> {
        let address = SocketAddr::new(self.address.ip(), port.port());
        let listeners = port.listen(&limits::HTTP)?;
        let router = server::router(Arc::clone(&self.shared));
        serve(listeners, None, &router, limits::HTTP, &self.tasks);
        self.shared.board.listens(Ok(address));
        tracing::info!("the VM monitor is listening on {address}");
        Ok(())
    }

    fn say(&self, error: &io::Error) {
        let error = format!("the VM monitor cannot use {}: {error}", self.address);
        tracing::error!(
            "{error}; this machine is not scaled until it can. Stop the program that uses the \
             port, or choose another address with --vm-monitor-addr"
        );
        self.shared.board.listens(Err(error));
    }

    /// Tries again and again: the port may belong to a predecessor that is about to end.
    async fn open_later(self) {
        let (mut pause, longest) = self.shared.limits.bind_pause;
        loop {
            tokio::time::sleep(pause).await;
            match bind(self.address).and_then(|port| self.open(port)) {
                Ok(()) => return,
                Err(error) => tracing::debug!("still not on {}: {error}", self.address),
            }
            pause = (pause * 2).min(longest);
        }
    }
}

/// A monitor that serves.
#[derive(Debug)]
pub struct RunningVmMonitor {
    board: Arc<Board>,
    background: Background,
    tasks: ServerTasks,
}

impl RunningVmMonitor {
    /// What it shows of itself.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Drops all connections, without a close frame, and closes the port, within twice `limit`.
    pub async fn end(self, limit: Duration) {
        self.background.end(limit).await;
        self.board.agent(None);
        self.tasks.shutdown(limit).await;
        tracing::info!("the VM monitor has ended");
    }
}
