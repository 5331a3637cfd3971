//! The pipeline from a spec to a running Postgres (01 §8 to §11).
//!
//! ```text
//!  stale processes ─► wipe, postgresql.conf ─┐
//!  safekeepers asked ────────────────────────┼─► [sync child] ─► basebackup ─► hba, links
//!  pageserver connection opened ─────────────┘                                     │
//!  TLS key and certificate waited for ─────────────────────────────────────────────┤
//!  swap, quota, rsyslogd ──────────────────────────────────────────────────────────┤
//!  control files, preloaded extensions ────────────────────────────────────────────┤
//!                      running ◄─ roles and databases ◄─ ready ◄─ Postgres spawned ◄┘
//! ```
//!
//! Migrations and the upgrade of the `neon` extension follow in the background.
//!
//! Steps drawn above one another run at the same time. Invariant: dropping [`start`] stops
//! everything it began, except a Postgres that it has put into `postgres`.

pub(crate) mod leftovers;
mod lock_files;
pub(crate) mod pgdata;
pub(crate) mod stale;
pub(crate) mod warmup;
pub(crate) mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use crate::configure::{catalog, configuration, unseen};
use crate::duration::millis;
use crate::env::CONTROL_PLANE_TOKEN;
use crate::node::phase::StartPhase;
use crate::node::startable::PRELOAD;
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::conf::ConfFile;
use crate::postgres::databricks;
use crate::postgres::files;
use crate::postgres::process::{PostgresProcess, Server};
use crate::postgres::ready::ReadyWatch;
use crate::secret::Secret;
use crate::spec::{ComputeMode, Lsn, ParsedSpec};
use crate::state::Event;
use crate::storage::basebackup::{self, BasebackupRequest, EarlyConnection};
use crate::storage::safekeepers::{self, SyncCheck, SyncCheckRequest};
use crate::storage::sync::{self, SyncRequest};
use crate::storage::target::PageserverTarget;
use crate::telemetry::log_files;
use crate::tls::TlsState;
pub(crate) use leftovers::Leftovers;

/// Takes a spec to a configured Postgres. The process is put into `postgres` as soon as it exists,
/// so that a caller that drops the start can stop it.
pub(crate) async fn start(
    node: &Arc<ComputeNode>,
    accepted: &AcceptedSpec,
    tls: &mut TlsState,
    leftovers: &mut Leftovers,
    postgres: &mut Option<PostgresProcess>,
) -> anyhow::Result<()> {
    let spec = accepted.spec();
    if let Some(lakebase) = &node.params.lakebase {
        let compute_id = node.params.compute_id.as_deref().unwrap_or_default();
        log_files::identify(&lakebase.instance_id, compute_id);
    }
    log_spec(spec);
    // Checks that touch nothing come first.
    configuration::log_remarks(accepted.conf());
    node.check_startable(accepted)?;

    tls.follow(&spec.spec);
    let active_tls = node.params.active_tls(&spec.spec);
    if spec.applies_catalog() {
        node.side.require_local_proxy_file(&spec.spec, active_tls)?;
    }
    node.side.in_background(&spec.spec, active_tls);
    let wait = async { tls.wait_for_pair().await.map_err(anyhow::Error::new) };
    let wait = node.during(StartPhase::Certificate, wait);
    let (pgdata, children) = (&node.params.pgdata, &node.children);
    let side = node.side.before_postgres(&spec.spec, pgdata, children, &node.metrics);
    let (pair, (), (), ()) = tokio::try_join!(
        wait,
        prepare_pgdata(node, accepted, leftovers),
        node.during(StartPhase::SideServices, side),
        load_extensions(node, spec),
    )?;
    if let Some(pair) = pair {
        // They were told before there was a pair, and may have found none (01 §15).
        node.side.certificate_changed(&spec.spec, active_tls);
        // After the basebackup, before which PGDATA is emptied.
        let _ = tls.install(pgdata, &pair)?;
    }
    start_postgres(node, spec, postgres).await?;

    let began = Instant::now();
    if spec.is_primary() {
        let postmaster = postgres.as_ref().context("Postgres was not started")?;
        catalog::apply_after_start(node, spec, || Ok(postmaster.reload()?)).await?;
    }
    node.update_metrics(|metrics| metrics.config_ms = millis(began.elapsed()));
    Ok(())
}

/// Changes the status to `running`, logs all metrics in one line (01 §20.1), and begins to watch.
pub(crate) fn finish(node: &Arc<ComputeNode>, postmaster: i32) {
    let total = millis(node.elapsed());
    node.update_metrics(|metrics| metrics.total_startup_ms = total);
    // Fails only if a signal has come in between; the driver sees it next.
    let runs = node.apply(Event::Succeeded).is_ok();
    let metrics = serde_json::to_string(&node.startup_metrics()).unwrap_or_default();
    tracing::info!("compute start finished, postmaster {postmaster}, metrics {metrics}");
    let (_, shares) = node.startup_shares();
    let shares =
        shares.iter().map(|(phase, took)| format!("{phase} {:.1}", took.as_secs_f64() * 1e3));
    tracing::info!("where the time went, in ms: {}", shares.collect::<Vec<_>>().join(", "));
    if runs {
        watch::begin(node, postmaster);
        unseen::begin(node);
    }
}

fn log_spec(spec: &ParsedSpec) {
    let text = |member: &Option<String>| member.as_deref().unwrap_or("none").to_owned();
    tracing::info!(
        "starting compute for project {}, operation {}, tenant {}, timeline {}, project {}, branch {}, \
         endpoint {}, mode {}, features {:?}",
        text(&spec.spec.cluster.cluster_id),
        text(&spec.spec.operation_uuid),
        spec.tenant_id,
        spec.timeline_id,
        text(&spec.spec.project_id),
        text(&spec.spec.branch_id),
        text(&spec.spec.endpoint_id),
        spec.mode(),
        spec.spec.features,
    );
}

/// Extensions that Postgres loads when it starts (07 §3.6).
async fn load_extensions(node: &ComputeNode, spec: &ParsedSpec) -> anyhow::Result<()> {
    let loaded = node.extensions.before_postgres(&spec.spec).await.context(PRELOAD)?;
    node.update_metrics(|metrics| {
        metrics.load_ext_ms = millis(loaded.took);
        metrics.num_ext_downloaded = loaded.count;
        metrics.largest_ext_size = loaded.largest;
        metrics.total_ext_download_size = loaded.total;
    });
    Ok(())
}

/// Prepares PGDATA for Postgres (01 §9).
async fn prepare_pgdata(
    node: &Arc<ComputeNode>,
    accepted: &AcceptedSpec,
    leftovers: &mut Leftovers,
) -> anyhow::Result<()> {
    let (spec, conf) = (accepted.spec(), Arc::clone(accepted.conf()));
    let target = PageserverTarget::from_spec(spec)?;
    let pageserver = EarlyConnection::start(&target, node.params.timeouts.basebackup.connect);
    let (directory, in_sync) =
        tokio::join!(prepare_directory(node, conf, leftovers), safekeepers_in_sync(node, spec));
    let stopped = directory?;
    // The predecessor could still write to the safekeepers while they were asked, and a basebackup
    // at an LSN that they have since passed cannot be used.
    let in_sync = if stopped > 0 { safekeepers_in_sync(node, spec).await } else { in_sync };
    let lsn = match (spec.mode(), in_sync) {
        (ComputeMode::Primary, Ok(lsn)) => lsn,
        (ComputeMode::Primary, Err(why)) => sync_safekeepers(node, spec, &why).await?,
        (ComputeMode::Static(lsn), _) => lsn,
        (ComputeMode::Replica, _) => Lsn::INVALID,
    };
    fetch_basebackup(node, spec, &target, lsn, pageserver).await?;

    let pgdata = &node.params.pgdata;
    if let Some(settings) = &spec.spec.databricks_settings {
        // Its line comes before the one that accepts every password login.
        databricks::install(pgdata, settings, node.params.install.version)?;
    }
    files::touch_up_hba(pgdata)?;
    files::link_dynshmem(pgdata)?;
    if !spec.is_primary() {
        files::create_standby_signal(pgdata)?;
    }
    Ok(())
}

/// Wipes PGDATA and writes `postgresql.conf`, which the sync child reads (06 §7.3). Returns how many
/// processes of a predecessor had to be stopped before.
async fn prepare_directory(
    node: &Arc<ComputeNode>,
    conf: Arc<ConfFile>,
    leftovers: &mut Leftovers,
) -> anyhow::Result<usize> {
    let params = &node.params;
    let mut stopped = 0;
    if params.pgdata.exists() {
        // A postmaster removes this file when it ends, and ends soon after the file is removed. A
        // postmaster that was only just started has not created it yet.
        let likely = params.pgdata.join(files::POSTMASTER_PID).exists();
        let stop = stale::stop_stale(&params.pgdata, &params.timeouts.postgres);
        stopped = if likely {
            node.during(StartPhase::StaleProcesses, async { Ok(stop.await?) }).await?
        } else {
            match stop.await {
                // Without /proc, and without a sign of a predecessor.
                Err(error @ stale::StaleError::Look { .. }) => {
                    tracing::warn!("{error}");
                    0
                }
                found => found?,
            }
        };
    }
    if stopped > 0 {
        tracing::warn!("stopped {stopped} processes that a killed predecessor left behind");
    }
    let (pgdata, force) = (params.pgdata.clone(), params.force_wipe);
    let wipe = move || -> anyhow::Result<_> {
        let wiped = pgdata::wipe(&pgdata, force)?;
        files::write_conf(&pgdata, &conf)?;
        Ok(wiped)
    };
    let prepared = async {
        let wiped = tokio::task::spawn_blocking(wipe).await;
        leftovers.keep(wiped.context("the wipe was interrupted")??);
        Ok(stopped)
    };
    node.during(StartPhase::PrepareDirectory, prepared).await
}

/// The quick check (01 §9.1). `Err` holds the reason why there is no LSN; that is not a failure
/// yet.
async fn safekeepers_in_sync(node: &Arc<ComputeNode>, spec: &ParsedSpec) -> Result<Lsn, String> {
    if !spec.is_primary() {
        return Err("not asked".to_owned());
    }
    if let Some(number) = spec.odd_safekeepers.first() {
        let why = format!(
            "the quick check of the safekeepers is skipped, because entry no. {number} of the list is \
             not of the form host:port; the full sync decides"
        );
        tracing::warn!("{why}");
        return Err(why);
    }
    let began = Instant::now();
    let request = SyncCheckRequest {
        safekeepers: &spec.safekeepers,
        tenant_id: spec.tenant_id,
        timeline_id: spec.timeline_id,
        token: spec.storage_token(),
    };
    let (limit, tries) = (node.params.timeouts.sync.answer, &node.metrics.tries);
    let check = safekeepers::check_safekeepers(request, limit, tries);
    let check = node.attempt(StartPhase::SafekeeperCheck, check).await;
    node.update_metrics(|metrics| metrics.sync_sk_check_ms = millis(began.elapsed()));
    match check {
        Ok(SyncCheck::InSync(lsn)) => Ok(lsn),
        Ok(other) => Err(other.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

async fn sync_safekeepers(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    why: &str,
) -> anyhow::Result<Lsn> {
    let asking = node.tries.begin("safekeepers", spec.safekeepers.join(", "), None);
    asking.because(why);
    let began = Instant::now();
    let server = server(node, spec);
    let synced = async {
        let limits = node.params.timeouts.sync.start;
        let lsn = sync::sync_with_retries(sync_request(node, &server), limits).await;
        lsn.with_context(|| format!("failed to sync safekeepers: {why}"))
    };
    let lsn = node.during(StartPhase::SafekeeperSync, synced).await?;
    node.update_metrics(|metrics| metrics.sync_safekeepers_ms = millis(began.elapsed()));
    Ok(lsn)
}

async fn fetch_basebackup(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    target: &PageserverTarget,
    lsn: Lsn,
    early: EarlyConnection,
) -> anyhow::Result<()> {
    let request = BasebackupRequest {
        target,
        tenant_id: spec.tenant_id,
        timeline_id: spec.timeline_id,
        lsn,
        replica: !spec.is_primary(),
        pgdata: &node.params.pgdata,
    };
    let limits = node.params.timeouts.basebackup;
    let tries = &node.metrics.tries;
    let fetched = async {
        tokio::select! {
            stats = basebackup::get_basebackup(
                request, Some(early), limits, &node.basebackup, tries,
            ) => Ok(stats?),
            never = log_progress(node) => match never {},
        }
    };
    let stats = node.during(StartPhase::Basebackup, fetched).await?;
    node.update_metrics(|metrics| {
        metrics.pageserver_connect_micros = stats.connect_micros;
        metrics.basebackup_ms = stats.millis;
        metrics.basebackup_bytes = stats.bytes;
    });
    Ok(())
}

/// Logs the progress of a start that takes longer than usual.
async fn log_progress(node: &ComputeNode) -> Infallible {
    loop {
        tokio::time::sleep(node.params.timeouts.basebackup.progress).await;
        tracing::info!("basebackup: {} bytes so far", node.basebackup.bytes());
    }
}

/// Spawns Postgres and waits until it accepts connections (01 §10).
async fn start_postgres(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    postgres: &mut Option<PostgresProcess>,
) -> anyhow::Result<()> {
    let params = &node.params;
    let began = Instant::now();
    let started = async {
        let watch = ReadyWatch::new(&params.pgdata);
        let server = server(node, spec);
        let process = PostgresProcess::start(&server, &params.pgdata, &node.children, &node.log)?;
        Ok(postgres.insert(process).wait_ready(watch, &params.timeouts.postgres).await?)
    };
    node.during(StartPhase::StartPostgres, started).await?;
    node.update_metrics(|metrics| metrics.start_postgres_ms = millis(began.elapsed()));
    Ok(())
}

/// The server program for a spec and its environment: the storage token, if the spec has one
/// (01 §2), the token for the control plane, which Neon's extension reads there (05 §17), and what
/// Lakebase mode adds (04 §16).
pub(crate) fn server(node: &ComputeNode, spec: &ParsedSpec) -> Server {
    let token = spec.storage_token();
    let token = token.map(|token| ("NEON_AUTH_TOKEN".to_owned(), token.clone()));
    let control_plane = node.params.control_plane_token.iter();
    let control_plane = control_plane.map(|it| (CONTROL_PLANE_TOKEN.to_owned(), it.clone()));
    let compute_id = node.params.compute_id.as_deref();
    let lakebase = node.params.lakebase.iter();
    let lakebase = lakebase.flat_map(|it| it.postgres_env(compute_id, &spec.spec));
    let lakebase = lakebase.map(|(name, value)| (name, Secret::new(value)));
    Server {
        postgres: node.params.install.postgres.clone(),
        cgexec: node.params.autoscaling,
        env: token.into_iter().chain(control_plane).chain(lakebase).collect(),
    }
}

/// Parameters of `--sync-safekeepers`, at the start and at the end.
pub(crate) fn sync_request<'a>(node: &'a ComputeNode, server: &'a Server) -> SyncRequest<'a> {
    SyncRequest {
        install: &node.params.install,
        server,
        pgdata: &node.params.pgdata,
        children: &node.children,
        log: &node.log,
        log_drain: node.params.timeouts.postgres.log_drain,
    }
}

#[cfg(test)]
mod tests;
