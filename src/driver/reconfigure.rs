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

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use crate::configure::catalog::{ApplyContext, CatalogWork};
use crate::configure::not_applied::NotApplied;
use crate::configure::{catalog, configuration};
use crate::node::outcome::CHECK;
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::files::{self, POSTGRESQL_CONF};
use crate::postgres::reload::{self, Reload, ReloadError};
use crate::postgres::staged::{ReplacedConf, StagedConf};
use crate::spec::control_plane::RPC;
use crate::spec::{ComputeSpec, ParsedSpec};
use crate::telemetry::traces;
use crate::telemetry::work_metrics::ReloadResult;
use crate::tls::{Confirmed, Installed, TlsPair, TlsState};

/// The part of a reconfiguration that failed, as the error text names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReconfigurePhase {
    /// A refresh asks for the configuration.
    Fetch,
    /// Another key and certificate take effect.
    Certificate,
    /// The new file is built, and the `postgres` program checks it.
    Check,
    /// The log export is set up.
    LogExport,
    /// The new file takes the place of the old one.
    Write,
    /// Postgres loads it.
    Reload,
    /// Roles and databases are applied.
    Catalog,
}

impl ReconfigurePhase {
    /// Name in `/status` and in error texts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch_configuration",
            Self::Certificate => "certificate",
            Self::Check => CHECK,
            Self::LogExport => "log_export",
            Self::Write => "write_configuration",
            Self::Reload => "reload",
            Self::Catalog => "apply_catalog",
        }
    }
}

impl Display for ReconfigurePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
        self.enter(ReconfigurePhase::Check);
        let staged =
            self.stage().await.map_err(|error| not_begun_in(ReconfigurePhase::Check, error))?;
        self.change(staged).await.map_err(NotApplied::Failed)?;
        tracing::info!("finished reconfiguration of compute node for operation {operation}");
        Ok(())
    }

    /// The part of [`Self::reconfigure`] that changes something.
    async fn change(&mut self, staged: StagedConf) -> anyhow::Result<()> {
        self.enter(ReconfigurePhase::LogExport);
        let side = &self.node.side;
        let export = side.before_rewrite(&self.new.spec().spec).await;
        export.map_err(|error| failed_in(ReconfigurePhase::LogExport, error))?;

        self.enter(ReconfigurePhase::Write);
        self.files_beside().await;
        let replaced = match staged.put_in_place() {
            Ok(replaced) => replaced,
            Err(error) => {
                return Err(self.take_back(None, ReconfigurePhase::Write, error.into()).await);
            }
        };
        if let Err((phase, error)) = self.put_in_force().await {
            return Err(self.take_back(Some(replaced), phase, error).await);
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
        self.enter(ReconfigurePhase::Write);
        self.files_beside().await;
        let in_place = async {
            staged.put_in_place()?;
            once_in_place.await
        };
        in_place.await.map_err(|error| failed_in(ReconfigurePhase::Write, error))?;
        self.put_in_force().await.map_err(|(phase, error)| failed_in(phase, error))?;
        // Last: what the server needs comes before the log export.
        self.enter(ReconfigurePhase::LogExport);
        let export = self.node.side.before_rewrite(&self.new.spec().spec).await;
        export.map_err(|error| failed_in(ReconfigurePhase::LogExport, error))
    }

    /// Writes the files that `postgresql.conf` refers to.
    async fn files_beside(&mut self) {
        self.tls.follow(&self.new.spec().spec);
        self.tls.install_present(&self.node.params.pgdata).await;
        self.node.extensions.write_control_files(&self.new.spec().spec).await;
    }

    /// Notes the phase for `/status`, which also names it if it fails.
    fn enter(&self, phase: ReconfigurePhase) {
        self.node.step(phase.name());
        traces::event(phase.name());
    }

    /// Writes the new file beside the old one and checks it.
    pub(crate) async fn stage(&self) -> Result<StagedConf, NotApplied> {
        configuration::stage(self.node, self.old, self.new, self.catalog).await
    }

    async fn put_in_force(&mut self) -> Result<(), (ReconfigurePhase, anyhow::Error)> {
        let (node, new) = (self.node, self.new.spec());
        let reload_failed = |error: anyhow::Error| (ReconfigurePhase::Reload, error);
        self.enter(ReconfigurePhase::Reload);
        self.reload().await.map_err(reload_failed)?;
        self.confirm_certificate(new).await.map_err(reload_failed)?;
        node.side.in_background(&new.spec, node.params.active_tls(&new.spec));
        if !self.catalog.is_due(new) {
            return Ok(());
        }
        self.enter(ReconfigurePhase::Catalog);
        let tell = || Ok(reload::request(self.postmaster.pid)?);
        let look_everywhere = self.catalog == CatalogWork::ApplyAndLook;
        let context = ApplyContext::Reconfiguration { look_everywhere };
        let applied = catalog::apply_in_turn(node, new, context, tell).await;
        applied.map_err(|error| (ReconfigurePhase::Catalog, error))?;
        if new.is_primary() {
            self.enter(ReconfigurePhase::Write);
            let enabled = files::enable_subscribers(&node.params.pgdata);
            enabled.map_err(|error| (ReconfigurePhase::Write, error.into()))?;
        }
        self.enter(ReconfigurePhase::Reload);
        self.reload().await.map_err(reload_failed)
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
    node.step(ReconfigurePhase::Fetch.name());
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
    fetched.await.map_err(|error: anyhow::Error| failed_in(ReconfigurePhase::Fetch, error))
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
