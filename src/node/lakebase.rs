//! What Lakebase mode adds to the parameters of a compute (04 §16).

use std::path::PathBuf;
use std::time::Duration;

use crate::spec::ComputeSpec;

/// Where the kernel puts core dumps in Lakebase mode: the next start of the container wipes PGDATA.
pub const CORE_DUMPS: &str = "/databricks/logs/brickstore";

/// Present in Lakebase mode.
#[derive(Debug, Clone)]
pub struct Lakebase {
    /// `INSTANCE_ID`; empty when it is not set.
    pub instance_id: String,
    /// `--pg-init-timeout`: from the beginning of the start to `running`.
    pub init_timeout: Duration,
    /// Folder of core dumps (01 §18.6), see [`CORE_DUMPS`].
    pub core_dumps: PathBuf,
}

impl Lakebase {
    /// Added to the environment of Postgres.
    pub fn postgres_env(
        &self,
        compute_id: Option<&str>,
        spec: &ComputeSpec,
    ) -> [(String, String); 2] {
        let compute_id = compute_id.unwrap_or_default();
        let endpoint = compute_id.split_once('/').map_or(compute_id, |(endpoint, _)| endpoint);
        let endpoint = if self.instance_id.is_empty() { endpoint } else { &self.instance_id };
        let settings = spec.databricks_settings.as_ref();
        let workspace = settings.map(|it| it.databricks_workspace_host.clone()).unwrap_or_default();
        [
            ("DATABRICKS_ENDPOINT_ID".to_owned(), endpoint.to_owned()),
            ("DATABRICKS_WORKSPACE_HOST".to_owned(), workspace),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::ComputeParams;
    use crate::spec::ParsedSpec;
    use crate::telemetry::metrics::Metrics;

    fn lakebase(instance_id: &str) -> Lakebase {
        let core_dumps = CORE_DUMPS.into();
        Lakebase { instance_id: instance_id.to_owned(), init_timeout: Duration::MAX, core_dumps }
    }

    #[test]
    fn the_endpoint_of_an_instance_or_of_the_compute() {
        let spec: ComputeSpec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0,
            "cluster": {"roles": [], "databases": []}
        }))
        .unwrap();
        for (instance_id, compute_id, endpoint) in [
            ("i-1", Some("e-1/c"), "i-1"),
            ("", Some("e-1/c/d"), "e-1"),
            ("", Some("e-1"), "e-1"),
            ("", None, ""),
        ] {
            let lakebase = lakebase(instance_id);
            let [(name, value), (_, workspace)] = lakebase.postgres_env(compute_id, &spec);
            assert_eq!((&*name, &*value), ("DATABRICKS_ENDPOINT_ID", endpoint));
            assert_eq!(workspace, "", "there is no object");
        }
    }

    #[test]
    fn what_it_is_attached_to() {
        let spec = |timeline: &str| {
            let spec: ComputeSpec = serde_json::from_value(json!({
                "format_version": 1, "suspend_timeout_seconds": 0,
                "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e", "timeline_id": timeline,
                "pageserver_connstring": "postgresql://no_user@127.0.0.1:6400",
                "safekeeper_connstrings": ["127.0.0.1:6500"],
                "cluster": {"roles": [], "databases": []}
            }))
            .unwrap();
            ParsedSpec::try_from(spec).unwrap()
        };
        let shown = |instance_id: &str| {
            let metrics = Metrics::new().unwrap();
            let lakebase = Some(lakebase(instance_id));
            let params = ComputeParams { lakebase, ..ComputeParams::for_tests() };
            for timeline in ["0".repeat(32), "1".repeat(32)] {
                params.show_attached(&metrics, &spec(&timeline));
            }
            let text = metrics.render().unwrap();
            let lines = text.lines().filter(|line| line.starts_with("pg_cctl_attached{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown(""), [""; 0]);
        let labels = format!(
            r#"pg_compute_id="c1",pg_instance_id="i-1",tenant_id="88dfefdb53d20e1b4bb1feae80e8020e",timeline_id="{}""#,
            "1".repeat(32)
        );
        assert_eq!(shown("i-1"), [format!("pg_cctl_attached{{{labels}}} 1")]);
    }
}
