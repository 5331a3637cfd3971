//! `postgresql.conf` of this compute, and what must hold before it is worth writing.

use anyhow::bail;

use crate::node::ComputeNode;
use crate::postgres::conf::{ConfFile, preload_libraries};
use crate::spec::ParsedSpec;

/// The library of Neon's extension.
const NEON: &str = "neon";

/// Says in the log what will not do what the sender of the spec may expect.
pub fn log_remarks(conf: &ConfFile) {
    for remark in conf.remarks() {
        tracing::warn!("{remark}");
    }
}

/// A vanilla Postgres that is told to preload `neon` would end with a line in its log about a
/// missing file; this says what to do instead.
pub fn check_preload_libraries(node: &ComputeNode, spec: &ParsedSpec) -> anyhow::Result<()> {
    let install = &node.params.install;
    let preloads_neon = preload_libraries(&spec.spec).iter().any(|library| library == NEON);
    // The setting would make Postgres look elsewhere than we do.
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
