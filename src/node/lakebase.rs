//! What Lakebase mode adds to the parameters of a compute (04 §16).

use crate::spec::ComputeSpec;

/// Present in Lakebase mode.
#[derive(Debug, Clone)]
pub struct Lakebase {
    /// `INSTANCE_ID`; empty when it is not set.
    pub instance_id: String,
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
            let lakebase = Lakebase { instance_id: instance_id.to_owned() };
            let [(name, value), (_, workspace)] = lakebase.postgres_env(compute_id, &spec);
            assert_eq!((&*name, &*value), ("DATABRICKS_ENDPOINT_ID", endpoint));
            assert_eq!(workspace, "", "there is no object");
        }
    }
}
