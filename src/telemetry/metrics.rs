//! The Prometheus registry (03 §10).

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::state::ComputeStatus;

/// Set while compiling through the environment variable `BUILD_TAG` (01 §2).
pub const BUILD_TAG: &str = match option_env!("BUILD_TAG") {
    Some(tag) => tag,
    None => "latest",
};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// All metric families of the process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    up: IntGaugeVec,
    basebackup_bytes: IntGauge,
}

impl Metrics {
    /// Registers all families. Fails only if two families share a name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let up = IntGaugeVec::new(
            Opts::new("compute_ctl_up", "Always 1; the labels tell the build and the status"),
            &["build_tag", "status"],
        )?;
        let basebackup_bytes = IntGauge::new(
            "compute_ctl_basebackup_received_bytes",
            "Compressed bytes of the basebackup so far, of the present or last try",
        )?;
        registry.register(Box::new(up.clone()))?;
        registry.register(Box::new(basebackup_bytes.clone()))?;
        Ok(Self { registry, up, basebackup_bytes })
    }

    /// Shows a status: exactly one series of `compute_ctl_up` at a time (01 §14.4).
    pub fn set_status(&self, status: ComputeStatus) {
        self.up.reset();
        self.up.with_label_values(&[BUILD_TAG, &status.to_string()]).set(1);
    }

    /// Shows how far the basebackup is.
    pub fn set_basebackup_bytes(&self, bytes: u64) {
        self.basebackup_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// All families in the text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_series_tells_the_status() {
        let metrics = Metrics::new().unwrap();
        for status in ComputeStatus::ALL {
            metrics.set_status(status);
            let text = metrics.render().unwrap();
            let series: Vec<_> =
                text.lines().filter(|line| line.starts_with("compute_ctl_up")).collect();
            let expected =
                format!(r#"compute_ctl_up{{build_tag="{BUILD_TAG}",status="{status}"}} 1"#);
            assert_eq!(series, [expected]);
        }
    }
}
