//! The checks of a start that touch nothing and cost no time (01 §8). An empty compute makes them
//! before it leaves that status, so that a spec that it refuses can be replaced by a better one;
//! every start makes them before it wipes PGDATA.

use anyhow::{Context as _, bail};

use super::{AcceptedSpec, ComputeNode};
use crate::catalog::plan::check_document;
use crate::postgres::conf::preload_libraries;
use crate::spec::ParsedSpec;

/// The library of Neon's extension.
const NEON: &str = "neon";

/// What a library that cannot be fetched is an error of.
pub(crate) const PRELOAD: &str = "shared_preload_libraries names a library that cannot be fetched";

impl ComputeNode {
    /// Finds what would make a start with this spec fail.
    ///
    /// # Errors
    /// The first fault.
    pub(crate) fn check_startable(&self, accepted: &AcceptedSpec) -> anyhow::Result<()> {
        let spec = accepted.spec();
        if let Some(unreadable) = accepted.conf().unreadable().first() {
            return Err(unreadable.clone().into());
        }
        if spec.applies_catalog() {
            check_document(&spec.spec)?;
        }
        self.params.check_port(accepted)?;
        self.check_preload_libraries(spec)?;
        self.side.check(&spec.spec)?;
        self.extensions.preloaded(&spec.spec).context(PRELOAD)?;
        Ok(())
    }

    /// Refuses to preload `neon` into a vanilla Postgres, with advice: Postgres itself would end
    /// with a log line about a missing file.
    fn check_preload_libraries(&self, spec: &ParsedSpec) -> anyhow::Result<()> {
        let install = &self.params.install;
        let preloads_neon = preload_libraries(&spec.spec).iter().any(|library| library == NEON);
        // With this setting Postgres searches other directories than this check.
        let elsewhere = spec.spec.setting("dynamic_library_path").is_some();
        if preloads_neon && !elsewhere && install.has_library(NEON) == Some(false) {
            bail!(
                "the spec sets shared_preload_libraries to load `{NEON}`, but {} has no such \
                 library: use Neon's build of PostgreSQL (--pgbin), or take `{NEON}` out of the \
                 setting",
                install
                    .pkglibdir
                    .as_ref()
                    .map_or_else(String::new, |dir| dir.display().to_string())
            );
        }
        Ok(())
    }
}
