//! A spec that this compute can run with (01 §5).

use std::sync::Arc;

use super::conf_params::ConfParams;
use crate::postgres::conf::{ConfError, ConfFile};
use crate::spec::ParsedSpec;
use crate::telemetry::sink::LogSink;

/// A spec together with the `postgresql.conf` that this compute writes for it.
///
/// Only [`AcceptedSpec::new`] makes one, so a spec without a possible file is refused at every
/// entry point: the first configuration, `/configure`, `/promote` and a refresh. The file is built
/// at acceptance and later written unchanged, except for the line that lets subscribers run on,
/// which depends on the file in place. Its only input that could have changed by then is the
/// kernel's overcommit policy, which a running server cannot follow.
#[derive(Debug, Clone)]
pub struct AcceptedSpec {
    spec: Arc<ParsedSpec>,
    conf: Arc<ConfFile>,
}

impl AcceptedSpec {
    /// Accepts a spec if a file can be built for it.
    ///
    /// # Errors
    /// No file can be built.
    pub fn new(spec: ParsedSpec, params: ConfParams<'_>) -> Result<Self, ConfError> {
        let conf = Arc::new(params.build(&spec.spec)?);
        Ok(Self { spec: Arc::new(spec), conf })
    }

    /// The spec itself.
    pub const fn spec(&self) -> &Arc<ParsedSpec> {
        &self.spec
    }

    /// `postgresql.conf` for the spec.
    pub const fn conf(&self) -> &Arc<ConfFile> {
        &self.conf
    }

    /// Tells the log which timeline it is about, and how lines of Postgres begin.
    pub(super) fn tell(&self, log: &LogSink) {
        let prefix = self.conf.value_in_force("log_line_prefix");
        let prefix = prefix.as_ref().map(|prefix| prefix.expose().as_str());
        let (tenant, timeline) = (self.spec.tenant_id, self.spec.timeline_id);
        log.serves(tenant.to_string(), timeline.to_string(), prefix);
    }

    /// Whether both are the same acceptance, not only equal ones.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec)
    }

    /// `operation_uuid`.
    pub fn operation(&self) -> Option<String> {
        self.spec.spec.operation_uuid.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ComputeParams;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spec_without_a_file_is_not_accepted() {
        let params = ComputeParams::for_tests();
        let spec = |name: &str| -> ParsedSpec {
            let spec: crate::spec::ComputeSpec = serde_json::from_value(json!({
                "format_version": 1, "suspend_timeout_seconds": 0,
                "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e",
                "timeline_id": "a451a43e3c4f981f67181c3e278d7363",
                "pageserver_connstring": "postgresql://no_user@127.0.0.1:6400",
                "safekeeper_connstrings": ["127.0.0.1:6500"],
                "cluster": {"roles": [], "databases": [], "settings": [
                    {"name": name, "value": "1", "vartype": "integer"}
                ]}
            }))
            .unwrap();
            spec.try_into().unwrap()
        };
        let accepted = params.accept(spec("work_mem")).unwrap();
        assert!(accepted.conf().value_in_force("work_mem").is_some());
        assert!(accepted.is(&accepted.clone()));
        assert!(!accepted.is(&params.accept(spec("work_mem")).unwrap()));
        assert!(matches!(params.accept(spec("work\nmem")), Err(ConfError::BadName(_))));
    }
}
