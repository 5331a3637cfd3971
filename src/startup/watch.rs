//! The tasks that watch a running compute (07 §1, §2): the monitor, and the statistics on
//! extensions. They begin when the compute is running; the driver ends both before it stops
//! Postgres, so their sessions do not delay the stop.

use std::sync::Arc;

use tokio::sync::watch;

use crate::node::ComputeNode;
use crate::services::installed_extensions::cadence::Cadence;
use crate::services::installed_extensions::{INSTALLED_EXTENSIONS, InstalledExtensions};
use crate::services::monitor::{COMPUTE_MONITOR, Monitor, Seen};
use crate::spec::ParsedSpec;
use crate::spec::wire::Feature;
use crate::sql::{SessionConfig, SessionError};

/// The spec in force, followed by later ones.
type Specs = watch::Receiver<Option<Arc<ParsedSpec>>>;

/// Begins both tasks.
pub(crate) fn begin(node: &Arc<ComputeNode>, postmaster: i32) {
    let mut specs = node.watch_spec();
    let Some(first) = specs.borrow_and_update().clone() else { return };
    let begun = monitor(node, &first, postmaster).and_then(|()| extensions(node, &first, specs));
    if let Err(error) = begun {
        tracing::error!("could not begin to watch activity and extensions: {error}");
    }
}

fn monitor(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    postmaster: i32,
) -> Result<(), SessionError> {
    let config = node.params.session(COMPUTE_MONITOR)?;
    let counters = spec.spec.has_feature(Feature::ActivityMonitorExperimental);
    let monitor =
        Monitor::new(config, node.params.timeouts.monitor, counters, node.metrics.clone());
    let connstr = &node.params.connstr;
    // Not the whole string, which may hold a password.
    let (host, port) = (connstr.host_str().unwrap_or_default(), connstr.port().unwrap_or(5432));
    tracing::info!("starting compute monitor for {host}:{port}{}", connstr.path());
    let of = Arc::clone(node);
    node.background.spawn(async move {
        let publish = |seen: Seen<'_>| of.saw_postgres(seen, postmaster);
        match monitor.run(publish, || of.status().is_ending()).await {}
    });
    Ok(())
}

fn extensions(
    node: &Arc<ComputeNode>,
    spec: &ParsedSpec,
    mut specs: Specs,
) -> Result<(), SessionError> {
    let config = node.params.session(INSTALLED_EXTENSIONS)?;
    let at_once = spec.is_primary();
    // A compute that applies its catalog uses the interval of the spec from the start, others only
    // those of later specs.
    let mut cadence = if at_once && !spec.spec.skip_pg_catalog_updates {
        Cadence::of_spec(spec.spec.suspend_timeout_seconds)
    } else {
        Cadence::new(node.params.extension_stats_interval)
    };
    tracing::info!("[NEON_EXT_SPAWN] Spawning background installed extensions worker");
    let of = Arc::clone(node);
    node.background.spawn(async move {
        let mut installed = InstalledExtensions::default();
        if at_once {
            collect(&of, &config, &mut installed).await;
        }
        loop {
            let pause = cadence.pause();
            tracing::info!("[NEON_EXT_INT_SLEEP]: Interval: {}", pause.as_secs());
            tokio::time::sleep(pause).await;
            collect(&of, &config, &mut installed).await;
            if specs.has_changed().unwrap_or_default()
                && let Some(spec) = specs.borrow_and_update().as_ref()
            {
                cadence.follow(spec.spec.suspend_timeout_seconds);
            }
            cadence.collected();
        }
    });
    Ok(())
}

async fn collect(node: &ComputeNode, config: &SessionConfig, installed: &mut InstalledExtensions) {
    let deadlines = node.params.timeouts.sql;
    if let Err(error) = installed.collect(config, deadlines, &node.metrics).await {
        tracing::error!("could not get installed extensions: {error}");
    }
}
