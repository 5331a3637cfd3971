//! A new spec for a running Postgres (01 §13): rewrite the configuration, reload, apply.

use std::sync::Arc;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::ComputeNode;
use crate::postgres::files;
use crate::spec::{ComputeSpec, ParsedSpec};
use crate::startup::catalog::Occasion;
use crate::startup::{catalog, configuration};
use crate::tls::{Confirmed, Installed, TlsPair, TlsState};

/// What a refresh found.
#[derive(Debug)]
pub enum Refreshed {
    /// This spec is in force now, or was already.
    Done(Arc<ParsedSpec>),
    /// The configuration has no spec any more: the compute is detached.
    Detached,
}

/// Applies a spec. With `skip_pg_catalog_updates`: exactly one rewrite and one reload, no SQL.
/// Subscribers that `drop_subscriptions_before_start` stops for the time of the catalog changes
/// run again afterwards; where nothing is dropped they are not stopped (04 W10).
pub async fn apply(
    node: &ComputeNode,
    spec: &ParsedSpec,
    tls: &mut TlsState,
    postmaster: i32,
) -> anyhow::Result<()> {
    let operation = spec.spec.operation_uuid.as_deref().unwrap_or("unknown");
    tracing::info!("applying the new spec, operation {operation}");
    node.step("write_configuration");
    let mut conf = configuration::render(node, spec)?;
    let (pgdata, skip) = (&node.params.pgdata, spec.spec.skip_pg_catalog_updates);
    if skip && files::subscribers_enabled(pgdata)? {
        conf.keep_subscribers();
    }
    node.side.in_background(&spec.spec, node.params.active_tls(&spec.spec));
    node.side.before_rewrite(&spec.spec).await?;
    tls.follow(&spec.spec);
    tls.install_present(pgdata).await;
    node.extensions.write_control_files(&spec.spec).await;
    let written = configuration::write(node, &conf);
    // Whatever became of the file: the certificate may be another one.
    reload(postmaster)?;
    written?;
    confirm_certificate(node, &spec.spec, tls, postmaster).await?;
    if !skip {
        node.step("apply_catalog");
        catalog::apply(node, spec, Occasion::Reconfiguration, || reload(postmaster)).await?;
        if spec.is_primary() {
            files::enable_subscribers(pgdata)?;
        }
        reload(postmaster)?;
    }
    tracing::info!("applied the new spec, operation {operation}");
    Ok(())
}

/// Fetches the configuration from where it came from and applies it unless it is in force.
pub async fn refresh(
    node: &ComputeNode,
    applied: Option<&Arc<ParsedSpec>>,
    tls: &mut TlsState,
    postmaster: i32,
) -> anyhow::Result<Refreshed> {
    node.step("fetch_configuration");
    let source = &node.params.source;
    let document = source.load(&node.metrics).await.context("failed to fetch the configuration")?;
    let Some(spec) = document.spec else { return Ok(Refreshed::Detached) };
    if let Some(applied) = applied
        && applied.spec == spec
    {
        tracing::info!("the configuration has not changed");
        return Ok(Refreshed::Done(Arc::clone(applied)));
    }
    let spec = Arc::new(ParsedSpec::try_from(spec).context("the fetched spec cannot be used")?);
    node.params.conf(&spec.spec).context("the fetched spec cannot be used")?;
    node.replace_spec(Arc::clone(&spec));
    apply(node, &spec, tls, postmaster).await?;
    Ok(Refreshed::Done(spec))
}

/// Puts another pair of key and certificate in force. `postgresql.conf` says the same as before and
/// is left alone.
pub async fn renew(
    node: &ComputeNode,
    spec: &ComputeSpec,
    tls: &mut TlsState,
    pair: &Arc<TlsPair>,
    postmaster: i32,
) -> anyhow::Result<()> {
    match tls.replace(&node.params.pgdata, pair)? {
        Installed::Changed => {
            reload(postmaster)?;
            confirm_certificate(node, spec, tls, postmaster).await
        }
        Installed::Unchanged => Ok(()),
    }
}

/// Looks whether Postgres has taken a certificate that was installed just now (04 W7).
async fn confirm_certificate(
    node: &ComputeNode,
    spec: &ComputeSpec,
    tls: &mut TlsState,
    postmaster: i32,
) -> anyhow::Result<()> {
    // The spec may switch it off.
    if spec.setting("ssl").is_some() {
        return Ok(());
    }
    let Some(server) = node.params.server_address().await else { return Ok(()) };
    match tls.confirm(&node.params.pgdata, server).await {
        Confirmed::AsItIs => Ok(()),
        Confirmed::PutBack => reload(postmaster),
    }
}

/// Has Postgres read its configuration again. The postmaster is a child that this process has not
/// reaped (the driver holds it), so the number cannot belong to another process.
fn reload(postmaster: i32) -> anyhow::Result<()> {
    kill(Pid::from_raw(postmaster), Signal::SIGHUP).context("could not signal Postgres to reload")
}
