//! `postgresql.conf` of an accepted spec: checks before it is written, and writing it beside the
//! file in force.

use anyhow::bail;

use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::conf::{ConfFile, preload_libraries};
use crate::postgres::files;
use crate::postgres::staged::{StagedConf, same_from_outside};
use crate::spec::ParsedSpec;

/// The library of Neon's extension.
const NEON: &str = "neon";

/// Logs settings that will not do what the sender of the spec may expect.
pub(crate) fn log_remarks(conf: &ConfFile) {
    for remark in conf.remarks() {
        tracing::warn!("{remark}");
    }
}

/// Refuses to preload `neon` into a vanilla Postgres, with advice: Postgres itself would end with a
/// log line about a missing file.
pub(crate) fn check_preload_libraries(node: &ComputeNode, spec: &ParsedSpec) -> anyhow::Result<()> {
    let install = &node.params.install;
    let preloads_neon = preload_libraries(&spec.spec).iter().any(|library| library == NEON);
    // With this setting Postgres searches other directories than this check.
    let elsewhere = spec.spec.setting("dynamic_library_path").is_some();
    if preloads_neon && !elsewhere && install.has_library(NEON) == Some(false) {
        bail!(
            "the spec sets shared_preload_libraries to load `{NEON}`, but {} has no such library: \
             use Neon's build of PostgreSQL (--pgbin), or take `{NEON}` out of the setting",
            install.pkglibdir.as_ref().map_or_else(String::new, |dir| dir.display().to_string())
        );
    }
    Ok(())
}

/// Writes the new file beside the old one. Subscribers that `drop_subscriptions_before_start` stops
/// during the catalog changes run again afterwards; if nothing is dropped they are not stopped
/// (04 W10).
///
/// # Errors
/// The file cannot be written, or Postgres would refuse it.
pub(crate) async fn stage(
    node: &ComputeNode,
    old: &AcceptedSpec,
    new: &AcceptedSpec,
) -> anyhow::Result<StagedConf> {
    let params = &node.params;
    log_remarks(new.conf());
    let mut conf = (**new.conf()).clone();
    if new.spec().spec.skip_pg_catalog_updates && files::subscribers_enabled(&params.pgdata)? {
        conf.keep_subscribers();
    }
    let staged = StagedConf::new(&params.pgdata, &conf)?;
    if !same_from_outside(&conf, old.conf()) {
        let (install, limit) = (&params.install, params.timeouts.postgres.helper);
        staged.check(install, &node.children, limit).await?;
    }
    Ok(staged)
}
