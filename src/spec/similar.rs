//! Finds the member that a typing error was meant to be.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::{PartialSchema, ToSchema};

use super::wire::{ComputeCtlConfig, ComputeSpec};

/// Members of the documents around the spec.
const OUTER: [&str; 5] = ["spec", "compute_ctl_config", "status", "jwks", "keys"];

/// The known member, of any object, that is most like this name; `None` if none is.
pub(crate) fn known_member_like(name: &str) -> Option<String> {
    let wanted = plain(name);
    let most = match wanted.len() {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    };
    let distance = |known: &str| strsim::osa_distance(&wanted, &plain(known));
    let known = known_members().into_iter().filter(|known| known != name);
    let (found, known) = known.map(|known| (distance(&known), known)).min()?;
    (found <= most).then_some(known)
}

/// Without differences of style: `tenantId` is like `tenant_id`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !"_- ".contains(*c)).flat_map(char::to_lowercase).collect()
}

/// From the schema, so that no list has to be kept. Only for documents with errors: it is slow.
pub(crate) fn known_members() -> BTreeSet<String> {
    let mut schemas = Vec::new();
    ComputeSpec::schemas(&mut schemas);
    ComputeCtlConfig::schemas(&mut schemas);
    let schemas = schemas.into_iter().map(|(_, schema)| schema);
    let all = schemas.chain([ComputeSpec::schema(), ComputeCtlConfig::schema()]);
    let mut names: BTreeSet<String> = OUTER.map(str::to_owned).into();
    for schema in all {
        if let Ok(Value::Object(schema)) = serde_json::to_value(&schema)
            && let Some(Value::Object(properties)) = schema.get("properties")
        {
            names.extend(properties.keys().cloned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_member() {
        for (name, known) in [
            ("clutser", Some("cluster")),
            ("setings", Some("settings")),
            ("tenantId", Some("tenant_id")),
            ("safekeepers_connstrings", Some("safekeeper_connstrings")),
            ("databses", Some("databases")),
            // Too short to be sure.
            ("jwk", None),
            ("compute_ctl_confg", Some("compute_ctl_config")),
            ("pg_compute_tls_setting", Some("pg_compute_tls_settings")),
            ("colour", None),
            ("x", None),
            ("", None),
            ("x_new", None),
        ] {
            assert_eq!(known_member_like(name).as_deref(), known, "{name}");
        }
    }
}
