//! The text of `--version`: which build this is.

use std::sync::LazyLock;

use crate::telemetry::metrics::BUILD_TAG;
use crate::telemetry::process_metrics::GIT_HASH;

/// One line, for `-V`.
pub(super) fn short() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("{} (build tag {BUILD_TAG})", env!("CARGO_PKG_VERSION")));
    &TEXT
}

/// A line for each input of the build, for `--version`.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features = if cfg!(feature = "testing") { "testing" } else { "none" };
        format!(
            "{}\ngit hash: {GIT_HASH}\nbuild tag: {BUILD_TAG}\nfeatures: {features}\ntarget: {}",
            env!("CARGO_PKG_VERSION"),
            env!("COMPUTE_CTL_TARGET")
        )
    });
    &TEXT
}
