//! The life of one compute process, from its arguments to its exit code (01 §3).
//!
//! [`Process::start`] takes over signals and orphans, [`Compute::prepare`] reads and checks all
//! input before anything is touched, [`Compute::run`] opens the ports and runs the driver. `main`
//! and the `dev` command both use it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::Notify;
use tokio_postgres::Config;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::cli::RunArgs;
use crate::driver::shutdown::Meaning;
use crate::driver::{Driver, Stop};
use crate::env::Environment;
use crate::failpoints;
use crate::http::{self, AuthMode, Authenticator, HttpLimits, Reserved, Servers};
use crate::node::heartbeat::TICK;
use crate::node::{
    AcceptedSpec, CORE_DUMPS, ComputeNode, ComputeParams, ConfParams, HostNames, Lakebase,
    UnusableConnstr, check_port, parse_connstr_of,
};
use crate::os::children::Children;
use crate::os::signals::{Received, Signals};
use crate::os::{limits, reaper};
use crate::postgres::install::PgInstall;
use crate::postgres::process::require_cgexec;
use crate::secret::Secret;
use crate::server::ReservedPort;
use crate::sidecars::sidecars::SidecarParams;
use crate::spec::ParsedSpec;
use crate::spec::control_plane::{ControlPlane, RPC};
use crate::spec::document::Parsed;
use crate::spec::source::ConfigSource;
use crate::spec::wire::{ComputeCtlConfig, ConfigDocument};
use crate::startup::pgdata::PgDataLock;
use crate::startup::warmup;
use crate::telemetry::metrics::{BUILD_TAG, Metrics};
use crate::telemetry::sink::LogSink;
use crate::telemetry::traces::{self, Traces};
use crate::timeouts::Timeouts;
use crate::tls::{Https, HttpsFiles};
use crate::vm_monitor::cgroup::CGROUP_ROOT;
use crate::vm_monitor::{VmMonitor, VmMonitorParams};
use service_manager::ServiceManager;

mod hangup;
mod memory;
mod service_manager;

/// Limit for the remaining children at the very end, after SIGTERM.
const LAST_CHILDREN: Duration = Duration::from_millis(500);

/// What SIGHUP means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHangup {
    /// Read the configuration again, as `/refresh_configuration` does.
    Refresh,
    /// The terminal was closed: end, like SIGINT.
    End,
    /// Nothing.
    Ignore,
}

/// The parts of the process that do not depend on the compute.
#[derive(Debug)]
pub struct Process {
    /// Registry of children; orphans are reaped.
    pub children: Children,
    /// Where log lines go.
    pub log: LogSink,
    /// Signals that end the process.
    pub stop: Stop,
    /// The export of traces; its owner ends it last.
    pub traces: Traces,
    /// A SIGHUP that means a refresh; several count as one.
    hangup: Arc<Notify>,
    /// The tasks that reap orphans and receive signals; they end when this value is dropped.
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Process {
    /// Takes over signals and orphans. From now on a SIGTERM has its documented effect, through
    /// `stop`. Signals that are held back ([`crate::os::signals::hold_back`]) get a line in the
    /// log.
    pub fn start(
        environment: &Environment,
        log: LogSink,
        stop: Stop,
        on_hangup: OnHangup,
    ) -> anyhow::Result<Self> {
        tracing::info!("compute_ctl {}, build tag {BUILD_TAG}", env!("CARGO_PKG_VERSION"));
        let traces = Traces::start(&environment.otel).context("could not make the metrics")?;
        failpoints::setup(environment.failpoints.as_deref())
            .context("FAILPOINTS cannot be used")?;
        let children = Children::new();
        let reaper = reaper::start(children.clone()).context("could not listen for SIGCHLD")?;
        let signals = Signals::install().context("could not listen for signals")?;
        let hangup = Arc::new(Notify::new());
        let receiver = receive_signals(signals, stop.clone(), on_hangup, Arc::clone(&hangup));
        let receiver = AbortOnDropHandle::new(tokio::spawn(receiver));
        Ok(Self { children, log, stop, traces, hangup, _tasks: [reaper, receiver] })
    }
}

/// Gives every signal its effect.
async fn receive_signals(
    mut signals: Signals,
    stop: Stop,
    on_hangup: OnHangup,
    hangup: Arc<Notify>,
) {
    loop {
        match (signals.recv().await, on_hangup) {
            (Received::End(signal), _) => {
                end(&stop, &format!("{signal}, signal {}", signal as i32))
            }
            (Received::Hangup, OnHangup::End) => end(&stop, "SIGHUP, signal 1"),
            (Received::Hangup, OnHangup::Refresh) => hangup.notify_one(),
            (Received::Hangup, OnHangup::Ignore) => {
                tracing::info!("received SIGHUP, which is ignored since the start, as by nohup");
            }
            (Received::Others(signals), _) => {
                let signals = signals.join("; ");
                tracing::warn!("received {signals}: it has no meaning here and is ignored");
            }
        }
    }
}

fn end(stop: &Stop, signal: &str) {
    match stop.signal() {
        Meaning::End => tracing::info!("received {signal}, stopping"),
        Meaning::Repeated => {
            tracing::info!("received {signal}, which counts as one with that before it");
        }
        Meaning::AtOnce => tracing::warn!("received {signal}, ending everything at once"),
    }
}

/// A compute that is ready to run: everything is checked, and only the lock is taken.
#[derive(Debug)]
pub struct Compute {
    /// What all tasks share.
    pub node: Arc<ComputeNode>,
    driver: Driver,
    reserved: Reserved,
    https: Option<Https>,
    authenticator: Authenticator,
    stop: Stop,
    hangup: Arc<Notify>,
    manager: ServiceManager,
    /// Held until the process ends.
    _lock: PgDataLock,
}

impl Compute {
    /// Reads the configuration and checks it, reserves the ports, locks PGDATA. An error here ends
    /// the process with exit code 1; PGDATA is untouched and no port was open. `document` is the
    /// configuration if it was read already, see [`read_configuration`]; `listeners` are sockets for
    /// the external server, if a service manager has opened some.
    pub async fn prepare(
        args: &RunArgs,
        environment: &Environment,
        document: Option<Parsed<ConfigDocument>>,
        listeners: Vec<TcpListener>,
        process: &Process,
    ) -> anyhow::Result<Self> {
        let (connstr, _) = connstr(args)?;
        for sentence in args.without_effect(environment.autoscaling) {
            tracing::warn!("{sentence}");
        }
        if environment.autoscaling {
            require_cgexec(environment.path.as_deref())?;
        }
        let pgdata = args.pgdata.as_deref().context("--pgdata is needed")?;
        let pgdata = std::path::absolute(pgdata)
            .with_context(|| format!("--pgdata {} cannot be used", pgdata.display()))?;
        let control_plane_token = environment.control_plane_token.clone();
        let source = source(args, environment)?;
        let side = SidecarParams {
            resize_swap: args.resize_swap_on_bind,
            quota_mount_point: args.set_disk_quota_for_fs.clone(),
            ..SidecarParams::new(environment)
        };
        let mut timeouts = Timeouts { stop_on_signal: args.stop_timeout, ..Timeouts::default() };
        if let Some(retries) =
            failpoints::basebackup_retries(environment.basebackup_retries.as_deref())?
        {
            timeouts.basebackup.retries = retries;
        }

        // A program runs in the meantime, so what does not depend on it is done beside it.
        let inputs = async {
            let metrics =
                Metrics::with(&process.traces.metrics).context("could not register the metrics")?;
            let count = |status| metrics.count_cplane_request(RPC, status);
            // It may ask the control plane.
            let loaded = source.load_unless_read(document, timeouts.control_plane.start, &count);
            let document = traces::started_by().scope(loaded).await?;
            anyhow::Ok((metrics, document))
        };
        let (install, inputs) = tokio::join!(
            PgInstall::discover(
                &args.pgbin,
                environment.path.as_deref(),
                &process.children,
                timeouts.postgres.helper
            ),
            inputs,
        );
        let (metrics, ConfigDocument { spec, compute_ctl_config }) = inputs?;
        let install = install?;
        let spec = spec.map(ParsedSpec::try_from).transpose();
        let spec = spec.with_context(|| unusable_spec(&source))?;

        let https = match https_files(args) {
            Some(files) => {
                let metrics = metrics.clone();
                Some(tokio::task::spawn_blocking(move || files.open(metrics)).await??)
            }
            None => None,
        };
        let (external_port, internal_port) = args.http_ports();
        let internal = (internal_port, args.internal_http_bind);
        let reserved = match ReservedPort::inherited(listeners)? {
            Some(_) if !args.external_http_bind.is_empty() => bail!(
                "the service manager has opened sockets for the external HTTP server (LISTEN_FDS), \
                 and --external-http-bind names addresses: give the addresses to the socket unit, \
                 and leave --external-http-bind out"
            ),
            Some(external) => {
                tracing::info!(
                    "the external HTTP server uses the sockets of the service manager (LISTEN_FDS), \
                     port {}; --external-http-port has no effect",
                    external.port()
                );
                http::reserve_beside(external, internal)?
            }
            None => http::reserve((external_port, &args.external_http_bind), internal)?,
        };
        let vm_monitor = environment.autoscaling.then(|| {
            VmMonitor::reserve(VmMonitorParams {
                address: args.vm_monitor_addr,
                cgroup: args.cgroup.clone(),
                cgroup_root: environment.cgroup_root.clone().unwrap_or_else(|| CGROUP_ROOT.into()),
                filecache_connstr: args.filecache_connstr.clone(),
            })
        });
        let lock = PgDataLock::acquire(&pgdata)?;

        let lakebase = args.lakebase_mode.then(|| Lakebase {
            instance_id: environment.instance_id.clone(),
            init_timeout: Duration::from_secs(args.pg_init_timeout),
            core_dumps: CORE_DUMPS.into(),
        });
        let params = ComputeParams {
            compute_id: args.compute_id.clone(),
            pgdata,
            connstr,
            install,
            privileged_role_name: args.privileged_role_name.clone(),
            internal_http_port: reserved.internal_port(),
            host_names: HostNames::with(&args.internal_http_host),
            source,
            force_wipe: args.force_wipe,
            dev: args.dev,
            tls: compute_ctl_config.tls.clone(),
            lakebase,
            autoscaling: environment.autoscaling,
            control_plane_token,
            signal_exit_code: args.signal_exit_code,
            remote_ext_base_url: args.remote_ext_base_url.clone(),
            extension_stats_interval: args.installed_extensions_collection_interval,
            side,
            timeouts,
        };
        let spec = spec.map(|spec| params.accept(spec)).transpose();
        let spec = spec.with_context(|| unusable_spec(&params.source))?;
        if let Some(spec) = &spec {
            params.check_port(spec)?;
        }
        let authenticator = authenticator(args, environment, &compute_ctl_config);
        let (node, requests) = ComputeNode::new(
            params,
            spec.as_ref(),
            process.children.clone(),
            process.log.clone(),
            metrics,
        );
        let stop = process.stop.clone();
        let driver = Driver::new(Arc::clone(&node), spec, requests, stop.clone(), vm_monitor);
        let hangup = Arc::clone(&process.hangup);
        let manager = ServiceManager::new(environment);
        Ok(Self {
            node,
            driver,
            reserved,
            https,
            authenticator,
            stop,
            hangup,
            manager,
            _lock: lock,
        })
    }

    /// Ports of the external and the internal server; the real ones if 0 was given.
    pub fn http_ports(&self) -> (u16, u16) {
        (self.reserved.external_port(), self.reserved.internal_port())
    }

    /// Runs the compute to its end. Returns the exit code of the process. Nothing that was started
    /// is left afterwards; after a signal all of this takes at most `--stop-timeout`.
    pub async fn run(self) -> u8 {
        let Self { node, driver, reserved, https, authenticator, stop, hangup, manager, _lock } =
            self;
        let doors = (reserved, https);
        // The heartbeat is in one task with the driver, so that the ticks stop when the driver is
        // stuck.
        let code = tokio::select! {
            code = warm_up_and_serve(&node, driver, doors, authenticator, &stop, &manager) => code,
            never = node.heartbeat.keep(TICK) => match never {},
            never = memory::give_back_after_work(&node) => match never {},
            never = memory::give_back_free_memory() => match never {},
            never = hangup::serve(&node, &hangup, &manager) => match never {},
            never = manager.follow(&node, &stop.requested) => match never {},
        };
        // The end can come before the task looks at the last change.
        manager.report(&node);
        let timeouts = &node.params.timeouts;
        // `terminate_rest` takes up to three rounds.
        let limit = stop.limit(LAST_CHILDREN * 3, timeouts.stop_on_signal) / 3;
        node.children.terminate_rest(limit).await;
        code
    }
}

async fn warm_up_and_serve(
    node: &Arc<ComputeNode>,
    driver: Driver,
    (reserved, https): (Reserved, Option<Https>),
    authenticator: Authenticator,
    stop: &Stop,
    manager: &ServiceManager,
) -> u8 {
    if node.spec().is_none() && node.params.lakebase.is_none() {
        tokio::select! {
            biased;
            () = stop.requested.cancelled() => return node.params.signal_exit_code,
            () = warmup::run(node) => {}
        }
    }
    let limits = HttpLimits::for_descriptors(limits::descriptor_limit());
    let servers = match Servers::start(reserved, https, Arc::clone(node), authenticator, limits) {
        Ok(servers) => servers,
        Err(error) => {
            tracing::error!("{error}");
            return 1;
        }
    };
    manager.serves();
    let code = driver.run().await;
    let timeouts = &node.params.timeouts;
    servers.shutdown(stop.limit(limits.shutdown, timeouts.stop_on_signal)).await;
    code
}

/// Reads a configuration file before everything else, for [`Compute::prepare`]; `None` if the
/// configuration is not in a file. For a start as root: root may read files that the user of
/// `--run-as` may not, a pipe gives its content only once, and an unusable configuration must not
/// leave behind an empty PGDATA, which root creates if it is missing. When this returns `Ok`, the
/// reading thread has ended.
///
/// # Errors
/// The configuration cannot be read or used, or `--connstr` cannot.
pub fn read_configuration(
    args: &RunArgs,
    environment: &Environment,
) -> anyhow::Result<Option<Parsed<ConfigDocument>>> {
    // In the same order as `prepare`.
    let (connstr, config) = connstr(args)?;
    // What root cannot read, no other user can.
    https_files(args).map_or(Ok(()), |files| files.check())?;
    let source = source(args, environment)?;
    let limit = Timeouts::default().control_plane.start.file;
    let Some(document) = source.read_file(limit)? else { return Ok(None) };
    if let Some(spec) = document.value.spec.clone() {
        let spec = ParsedSpec::try_from(spec).with_context(|| unusable_spec(&source))?;
        let params = ConfParams {
            privileged_role_name: &args.privileged_role_name,
            internal_http_port: args.http_ports().1,
            tls: document.value.compute_ctl_config.tls.as_ref(),
            lakebase_connstr: args.lakebase_mode.then_some(&connstr),
        };
        let accepted = AcceptedSpec::new(spec, params).with_context(|| unusable_spec(&source))?;
        if let Err(other) = check_port(&config, accepted.conf())
            && other.is_certain()
        {
            return Err(other.into());
        }
    }
    Ok(Some(document))
}

/// The files of the external HTTP server, if it is to speak TLS.
fn https_files(args: &RunArgs) -> Option<HttpsFiles> {
    let (key, cert) = (args.external_http_tls_key.clone()?, args.external_http_tls_cert.clone()?);
    Some(HttpsFiles { key, cert, client_ca: args.external_http_tls_client_ca.clone() })
}

/// The connection of `--connstr`, or of the file that was read in its place.
fn connstr(args: &RunArgs) -> Result<(Url, Config), UnusableConnstr> {
    let text = args.connstr.as_ref().map(Secret::expose).map_or("", String::as_str);
    parse_connstr_of(text, args.connstr_file.as_deref())
}

fn unusable_spec(source: &ConfigSource) -> String {
    format!("the spec cannot be used ({source})")
}

/// The source on the command line, which must name exactly one.
fn source(args: &RunArgs, environment: &Environment) -> anyhow::Result<ConfigSource> {
    match (&args.config, &args.spec, &args.control_plane_uri) {
        (Some(config), _, _) => Ok(ConfigSource::ConfigFile(absolute(config)?)),
        (_, Some(spec), _) => Ok(ConfigSource::SpecFile(absolute(spec)?)),
        (_, _, Some(base)) => Ok(ConfigSource::ControlPlane(ControlPlane {
            base: base.clone(),
            compute_id: args.compute_id.clone().unwrap_or_default(),
            token: environment.control_plane_token.clone().unwrap_or_default(),
        })),
        _ => bail!("one of --config, --spec and --control-plane-uri is needed"),
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} cannot be used", path.display()))
}

/// Authentication is off only in Lakebase mode with an instance id (01 §24 no. 28, 03 W23).
fn authenticator(
    args: &RunArgs,
    environment: &Environment,
    config: &ComputeCtlConfig,
) -> Authenticator {
    let off = args.lakebase_mode && !environment.instance_id.is_empty();
    let mode = if off { AuthMode::Off } else { AuthMode::Verify };
    Authenticator::new(&config.jwks, args.compute_id.clone(), args.dev, mode)
}
