//! Libraries that Postgres loads at its start must be there before it starts (07 §3.6, 02 §10.5).

use std::fmt::Display;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::ExtensionStore;
use super::index::{self, ResolveError};
use crate::postgres::conf::preload_texts;
use crate::spec::ComputeSpec;

/// Libraries that are part of the server, and never fetched.
const BUILT_IN: [&str; 2] = ["neon", "databricks_auth"];

/// The archives fetched before the start, for `/metrics.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Time for all archives together.
    pub took: Duration,
    /// Number of libraries whose archive was installed.
    pub count: u64,
    /// Bytes of the largest archive, compressed.
    pub largest: u64,
    /// Bytes of all archives, compressed.
    pub total: u64,
}

impl ExtensionStore {
    /// Extensions whose libraries a spec preloads, one for each library; none without a gateway.
    /// Libraries that the index does not know are assumed to be installed.
    ///
    /// # Errors
    /// The spec asks for a library that this compute may not use.
    pub fn preloaded(&self, spec: &ComputeSpec) -> Result<Vec<String>, ResolveError> {
        let (true, Some(index)) = (self.is_enabled(), &spec.remote_extensions) else {
            return Ok(Vec::new());
        };
        let libraries = candidates(spec);
        let known = libraries.iter().filter(|name| index.library_index.contains_key(*name));
        known.map(|name| index::resolve(index, name, true).map(str::to_owned)).collect()
    }

    /// Writes the control files and fetches the preloaded libraries. A failed or late download is
    /// only logged: Postgres requests a missing library itself. A late download goes on.
    ///
    /// # Errors
    /// Those of [`Self::preloaded`].
    pub async fn before_postgres(&self, spec: &ComputeSpec) -> Result<Loaded, ResolveError> {
        self.write_control_files(spec).await;
        let extensions = self.preloaded(spec)?;
        if extensions.is_empty() {
            return Ok(Loaded::default());
        }
        let began = Instant::now();
        let limit = self.downloader.as_ref().map_or(Duration::MAX, |it| it.limits.preload);
        let fetches = extensions.iter().map(|extension| timeout(limit, self.fetch(extension)));
        let mut loaded = Loaded::default();
        for (extension, fetched) in extensions.iter().zip(join_all(fetches).await) {
            match fetched {
                Ok(Ok(size)) => {
                    loaded.count += 1;
                    loaded.largest = loaded.largest.max(size);
                    loaded.total = loaded.total.saturating_add(size);
                }
                Ok(Err(error)) => report(extension, &error),
                Err(_) => report(extension, &format!("still in progress after {limit:?}")),
            }
        }
        loaded.took = began.elapsed();
        Ok(loaded)
    }
}

fn report(extension: &str, error: &dyn Display) {
    tracing::error!(
        "Failed to download extension: {extension:?}, which shared_preload_libraries needs: {error}"
    );
}

/// Libraries of the settings list and of the base text, each once. The document prescribes more
/// separators than Postgres has.
fn candidates(spec: &ComputeSpec) -> Vec<String> {
    let mut libraries: Vec<String> = Vec::new();
    for text in preload_texts(spec) {
        for name in text.split([',', '\'', '"', ' ', '\t', '\n']) {
            let fetched = !name.is_empty() && !BUILT_IN.contains(&name);
            if fetched && !libraries.iter().any(|library| library == name) {
                libraries.push(name.to_owned());
            }
        }
    }
    libraries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn candidates_of_both_places_once() {
        let spec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0,
            "cluster": {"roles": [], "databases": [],
                "postgresql_conf": "shared_preload_libraries=old\nshared_preload_libraries = 'm, x'\n",
                "settings": [{
                    "name": "shared_preload_libraries", "vartype": "string",
                    "value": "neon,l,'m' , \"n\",databricks_auth,l"
                }]}
        }))
        .unwrap();
        assert_eq!(candidates(&spec), ["l", "m", "n", "x"]);
    }
}
