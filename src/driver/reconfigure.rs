//! A new spec for a running Postgres (01 §13): check, rewrite, reload, apply; after an error, roll
//! back.
//!
//! ```text
//!  check_configuration ─► log_export ─► write_configuration ─► reload ─► apply_catalog
//!          │                  │                  └───────────────┴────────────┤ error
//!          ▼                  ▼                                               ▼
//!   refused, as before   old one stays      the old file is put back and loaded again
//! ```
//!
//! Invariants: success means that Postgres has loaded the new file ([`reload::confirmed`]), and
//! with `skip_pg_catalog_updates` no SQL was needed for it; after an error the old file is in place
//! (except in a promotion, [`Change::complete`]), and the error names the phase. Catalog changes
//! made before the error are not rolled back.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use super::steps::ReconfigurePhase;
use crate::configure::catalog::{ApplyContext, CatalogWork};
use crate::configure::not_applied::NotApplied;
use crate::configure::{catalog, configuration};
use crate::failpoints::edges::{self, Injected};
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::files::{self, POSTGRESQL_CONF};
use crate::postgres::reload::{self, Reload, ReloadError};
use crate::postgres::staged::{ReplacedConf, StagedConf};
use crate::spec::control_plane::RPC;
use crate::spec::{ComputeSpec, ParsedSpec};
use crate::telemetry::traces;
use crate::telemetry::work_metrics::ReloadResult;
use crate::tls::{Confirmed, Installed, TlsPair, TlsState};

/// Adds the phase to an error, and the configuration that is in force now. A server that does not
/// load the new file may not load the old one either.
fn failed_in(phase: ReconfigurePhase, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let before = match phase {
        ReconfigurePhase::Reload => {
            "the previous file is back in its place, and Postgres will load it when it responds"
        }
        _ => "the configuration before it is in force",
    };
    error.into().context(format!("the reconfiguration failed in phase {phase}; {before}"))
}

/// Adds the phase to the error of a spec that was refused, or could not be tried.
fn not_begun_in(phase: ReconfigurePhase, not_applied: NotApplied) -> NotApplied {
    let context = |verb: &str| {
        format!(
            "the reconfiguration {verb} in phase {phase}; the configuration before it is in force"
        )
    };
    match not_applied {
        NotApplied::Refused(error) => NotApplied::Refused(error.context(context("was refused"))),
        NotApplied::NotBegun(error) => NotApplied::NotBegun(error.context(context("failed"))),
        failed @ NotApplied::Failed(_) => failed,
    }
}

/// The running Postgres.
#[derive(Debug)]
pub(crate) struct Postmaster {
    /// Process id; the owner of this value also holds the child.
    pub pid: i32,
    /// The `pg_hba.conf` that Postgres was started with; a reload cannot change its path.
    hba: PathBuf,
}

impl Postmaster {
    /// The postmaster `pid`, which was started with this spec.
    pub(crate) fn new(pid: i32, node: &ComputeNode, spec: &AcceptedSpec) -> Self {
        let pgdata = &node.params.pgdata;
        let elsewhere = spec.conf().value_in_force("hba_file");
        // Usually in PGDATA. Postgres resolves a relative path against its start directory, which
        // is also ours.
        let elsewhere = elsewhere.and_then(|path| std::path::absolute(path.expose()).ok());
        let hba = elsewhere.unwrap_or_else(|| pgdata.join("pg_hba.conf"));
        Self { pid, hba }
    }
}

/// The change from one spec to another.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// The compute.
    pub node: &'a ComputeNode,
    /// The spec in force.
    pub old: &'a AcceptedSpec,
    /// The spec to apply.
    pub new: &'a AcceptedSpec,
    /// The certificate.
    pub tls: &'a mut TlsState,
    /// The running Postgres.
    pub postmaster: &'a Postmaster,
    /// What becomes of roles and databases.
    pub catalog: CatalogWork,
}

impl Change<'_> {
    /// Puts the new spec in force. With `skip_pg_catalog_updates`: exactly one rewrite and one
    /// reload, no SQL.
    pub(crate) async fn reconfigure(mut self) -> Result<(), NotApplied> {
        let operation = self.new.operation();
        let operation = operation.as_deref().unwrap_or("unknown");
        tracing::info!("applying the config, operation {operation}");
        let staged = during(self.node, ReconfigurePhase::Check, self.stage()).await;
        let staged = staged.map_err(|error| not_begun_in(ReconfigurePhase::Check, error))?;
        self.change(staged).await.map_err(NotApplied::Failed)?;
        tracing::info!("finished reconfiguration of compute node for operation {operation}");
        Ok(())
    }

    /// The part of [`Self::reconfigure`] that changes something.
    async fn change(&mut self, staged: StagedConf) -> anyhow::Result<()> {
        let node = self.node;
        let export = self.export_log().await;
        export.map_err(|error| failed_in(ReconfigurePhase::LogExport, error))?;

        let mut replaced = None;
        let written = async {
            self.files_beside().await;
            replaced = Some(staged.put_in_place()?);
            Ok(())
        };
        if let Err(error) = during(node, ReconfigurePhase::Write, written).await {
            return Err(self.take_back(replaced, ReconfigurePhase::Write, error).await);
        }
        if let Err((phase, error)) = self.put_in_force().await {
            return Err(self.take_back(replaced, phase, error).await);
        }
        Ok(())
    }

    /// Puts the new spec in force on a server that has just left recovery, with a file that was
    /// checked before. Nothing is rolled back: the old file is that of a replica. `once_in_place`
    /// runs after the file is in place and before the reload.
    pub(crate) async fn complete(
        mut self,
        staged: StagedConf,
        once_in_place: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let failed_in = |phase: ReconfigurePhase, error: anyhow::Error| {
            error.context(format!(
                "the server was promoted, and the reconfiguration failed in phase {phase}"
            ))
        };
        let node = self.node;
        let in_place = async {
            self.files_beside().await;
            staged.put_in_place()?;
            once_in_place.await
        };
        let in_place = during(node, ReconfigurePhase::Write, in_place).await;
        in_place.map_err(|error| failed_in(ReconfigurePhase::Write, error))?;
        self.put_in_force().await.map_err(|(phase, error)| failed_in(phase, error))?;
        // Last: what the server needs comes before the log export.
        self.export_log().await.map_err(|error| failed_in(ReconfigurePhase::LogExport, error))
    }

    async fn export_log(&self) -> anyhow::Result<()> {
        let export = self.node.side.before_rewrite(&self.new.spec().spec);
        during(self.node, ReconfigurePhase::LogExport, export).await
    }

    /// Writes the files that `postgresql.conf` refers to.
    async fn files_beside(&mut self) {
        self.tls.follow(&self.new.spec().spec);
        self.tls.install_present(&self.node.params.pgdata).await;
        self.node.extensions.write_control_files(&self.new.spec().spec).await;
    }

    /// Writes the new file beside the old one and checks it.
    pub(crate) async fn stage(&self) -> Result<StagedConf, NotApplied> {
        configuration::stage(self.node, self.old, self.new, self.catalog).await
    }

    async fn put_in_force(&mut self) -> Result<(), (ReconfigurePhase, anyhow::Error)> {
        let (node, new) = (self.node, self.new.spec());
        let reload_failed = |error: anyhow::Error| (ReconfigurePhase::Reload, error);
        let loaded = async {
            self.reload().await?;
            self.confirm_certificate(new).await
        };
        during(node, ReconfigurePhase::Reload, loaded).await.map_err(reload_failed)?;
        node.side.in_background(&new.spec, node.params.active_tls(&new.spec));
        if !self.catalog.is_due(new) {
            return Ok(());
        }
        let tell = || Ok(reload::request(self.postmaster.pid)?);
        let look_everywhere = self.catalog == CatalogWork::ApplyAndLook;
        let context = ApplyContext::Reconfiguration { look_everywhere };
        let applied = catalog::apply_in_turn(node, new, context, tell);
        let applied = during(node, ReconfigurePhase::Catalog, applied).await;
        applied.map_err(|error| (ReconfigurePhase::Catalog, error))?;
        if new.is_primary() {
            let enabled = async { Ok(files::enable_subscribers(&node.params.pgdata)?) };
            let enabled = during(node, ReconfigurePhase::Write, enabled).await;
            enabled.map_err(|error| (ReconfigurePhase::Write, error))?;
        }
        during(node, ReconfigurePhase::Reload, self.reload()).await.map_err(reload_failed)
    }

    /// Makes Postgres load its configuration and waits until it has.
    pub(crate) async fn reload(&self) -> anyhow::Result<()> {
        confirmed_reload(self.node, self.postmaster).await
    }

    /// Confirms the certificate; `loaded` is the spec whose file Postgres has loaded.
    async fn confirm_certificate(&mut self, loaded: &ParsedSpec) -> anyhow::Result<()> {
        match confirm_certificate(self.node, &loaded.spec, self.tls).await {
            Confirmed::AsItIs => Ok(()),
            Confirmed::PutBack => self.reload().await,
        }
    }

    /// Returns to the old spec. Returns the error with the phase and the outcome of the rollback.
    async fn take_back(
        &mut self,
        replaced: Option<ReplacedConf>,
        phase: ReconfigurePhase,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let (node, old) = (self.node, &self.old.spec().spec);
        self.tls.follow(old);
        node.side.in_background(old, node.params.active_tls(old));
        if let Err(error) = node.side.before_rewrite(old).await {
            tracing::error!("could not take the log export back: {error:#}");
        }
        let restored = replaced.map_or(Ok(()), |replaced| replaced.restore());
        let reloaded = match phase {
            // Postgres did not react before, and will load the old file once it does.
            ReconfigurePhase::Reload => {
                reload::request(self.postmaster.pid).map_err(anyhow::Error::new)
            }
            // The certificate is not rolled back.
            _ => match self.reload().await {
                Ok(()) => self.confirm_certificate(self.old.spec()).await,
                error => error,
            },
        };
        match restored.map_err(anyhow::Error::new).and(reloaded) {
            Ok(()) => failed_in(phase, error),
            Err(why) => error.context(format!(
                "the reconfiguration failed in phase {phase}, and the configuration before it \
                 could not be put back in force: {why:#}"
            )),
        }
    }
}

/// What a refresh found.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// A spec that can be used.
    Spec(AcceptedSpec),
    /// The configuration has no spec any more: the compute is detached.
    Detached,
}

/// Fetches the configuration from its source. Returns `known` itself if the fetched spec equals it.
pub(crate) async fn fetch(node: &ComputeNode, known: &AcceptedSpec) -> anyhow::Result<Fetched> {
    let fetched = async {
        let patience = node.params.timeouts.control_plane.refresh;
        let count = |status| node.metrics.count_cplane_request(RPC, status);
        let document = node.params.source.load(patience, &count).await?;
        let Some(spec) = document.spec else { return Ok(Fetched::Detached) };
        if known.spec().spec == spec {
            return Ok(Fetched::Spec(known.clone()));
        }
        let spec = ParsedSpec::try_from(spec).context("the fetched spec cannot be used")?;
        let spec = node.params.accept(spec).context("the fetched spec cannot be used")?;
        Ok(Fetched::Spec(spec))
    };
    let fetched = during(node, ReconfigurePhase::Fetch, fetched).await;
    fetched.map_err(|error: anyhow::Error| failed_in(ReconfigurePhase::Fetch, error))
}

/// Performs a phase. `/status` shows it, and names it if it fails.
fn during<T, E: From<Injected>>(
    node: &ComputeNode,
    phase: ReconfigurePhase,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let work = edges::around(phase.point(), work);
    async move {
        node.step(phase.name());
        traces::event(phase.name());
        work.await
    }
}

/// Puts another pair of key and certificate in force. `postgresql.conf` does not change.
pub(crate) async fn renew(
    node: &ComputeNode,
    in_force: &ParsedSpec,
    tls: &mut TlsState,
    pair: &Arc<TlsPair>,
    postmaster: &Postmaster,
) -> anyhow::Result<()> {
    match tls.replace(&node.params.pgdata, pair)? {
        Installed::Changed => {
            confirmed_reload(node, postmaster).await?;
            match confirm_certificate(node, &in_force.spec, tls).await {
                Confirmed::AsItIs => Ok(()),
                Confirmed::PutBack => confirmed_reload(node, postmaster).await,
            }
        }
        Installed::Unchanged => Ok(()),
    }
}

/// Checks whether Postgres, which runs with `loaded`, has taken a certificate that was just
/// installed (04 W7).
async fn confirm_certificate(
    node: &ComputeNode,
    loaded: &ComputeSpec,
    tls: &mut TlsState,
) -> Confirmed {
    // The spec may switch TLS off.
    if loaded.setting("ssl").is_some() || node.params.active_tls(loaded).is_none() {
        return Confirmed::AsItIs;
    }
    match node.params.server_address().await {
        Some(server) => tls.confirm(&node.params.pgdata, server).await,
        None => Confirmed::AsItIs,
    }
}

async fn confirmed_reload(node: &ComputeNode, postmaster: &Postmaster) -> anyhow::Result<()> {
    let Postmaster { pid, hba } = postmaster;
    let conf = node.params.pgdata.join(POSTGRESQL_CONF);
    let limit = node.params.timeouts.postgres.reload;
    let reload = reload::confirmed(*pid, &conf, hba, limit).await;
    node.metrics.work.reloaded(match &reload {
        Ok(Reload::Confirmed) => ReloadResult::Confirmed,
        Ok(Reload::Unwatched) => ReloadResult::Unwatched,
        Err(ReloadError::NotConfirmed { .. }) => ReloadResult::NotConfirmed,
        Err(ReloadError::Signal { .. }) => ReloadResult::NotSent,
    });
    reload?;
    Ok(())
}
