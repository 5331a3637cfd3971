//! Checks the spec of a promotion: it must be that of a primary, and of this compute (03 §6.3).

use thiserror::Error;

use crate::postgres::conf::parse_line;
use crate::spec::wire::{ComputeMode, ComputeSpec};
use crate::spec::{ParsedSpec, SpecError};

/// Why a spec cannot be used for a promotion. Clients see these texts with status 400.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum RefusedSpec {
    /// The spec cannot be used at all.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The mode is not `Primary`.
    #[error("the spec of a promotion must have the mode Primary, this one has {0}")]
    Mode(ComputeMode),
    /// The spec belongs to another tenant or timeline.
    #[error("the spec of a promotion must have the tenant and the timeline of the replica")]
    Timeline,
}

/// The spec with which the replica can become a primary. It keeps the port that the server listens
/// on if both specs have a base text: control planes on one machine give every endpoint its own
/// port (04 §2.3).
///
/// # Errors
/// See [`RefusedSpec`].
pub(crate) fn accept(
    mut spec: ComputeSpec,
    in_force: &ParsedSpec,
) -> Result<ParsedSpec, RefusedSpec> {
    if spec.mode != ComputeMode::Primary {
        return Err(RefusedSpec::Mode(spec.mode));
    }
    if let Some(text) = &mut spec.cluster.postgresql_conf
        && let Some(port) = port(&in_force.spec)
    {
        text.push_str("\nport=");
        text.push_str(&port);
    }
    let spec = ParsedSpec::try_from(spec)?;
    let is_same = |a: &ParsedSpec| (a.tenant_id, a.timeline_id);
    if is_same(&spec) != is_same(in_force) {
        return Err(RefusedSpec::Timeline);
    }
    Ok(spec)
}

/// The port in the base text that Postgres uses.
fn port(spec: &ComputeSpec) -> Option<String> {
    let text = spec.cluster.postgresql_conf.as_deref()?;
    let mut settings = text.lines().rev().filter_map(parse_line);
    let (_, port) = settings.find(|(name, _)| name.eq_ignore_ascii_case("port"))?;
    // The text is written verbatim, so only a number is allowed.
    port.parse::<u16>().ok().map(|port| port.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(members: Value) -> ComputeSpec {
        let mut spec = json!({
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "cluster": {"roles": [], "databases": []},
            "tenant_id": "f9ddaa608f8785cbabc1fd5fd652b865",
            "timeline_id": "0d5fa912d882faf89d456adb9d001240",
            "pageserver_connstring": "postgres://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["a:1"]
        });
        let members = members.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(members);
        serde_json::from_value(spec).unwrap()
    }

    pub(crate) fn parsed(members: Value) -> ParsedSpec {
        spec(members).try_into().unwrap()
    }

    fn base_text(text: &str) -> Value {
        json!({"cluster": {"roles": [], "databases": [], "postgresql_conf": text}})
    }

    #[test]
    fn only_a_primary_of_the_same_timeline() {
        let replica = parsed(json!({"mode": "Replica", "safekeeper_connstrings": []}));
        let error = |members| accept(spec(members), &replica).unwrap_err().to_string();
        assert!(accept(spec(json!({})), &replica).unwrap().is_primary());
        let text = "the spec of a promotion must have the mode Primary, this one has replica";
        assert_eq!(error(json!({"mode": "Replica"})), text);
        assert!(error(json!({"mode": {"Static": "0/1"}})).ends_with("static"));
        let other = json!({"timeline_id": "1".repeat(32)});
        assert!(error(other).contains("tenant and the timeline"));
        let twice = json!({"safekeeper_connstrings": ["a:1", "a:1"]});
        assert_eq!(error(twice), "duplicate entry in safekeeper_connstrings: a:1!");
    }

    #[test]
    fn the_port_stays_where_both_have_a_base_text() {
        let text = |old: Option<&str>, new: Option<&str>| {
            let members = |text: Option<&str>| text.map_or(json!({}), base_text);
            let accepted = accept(spec(members(new)), &parsed(members(old))).unwrap();
            accepted.spec.cluster.postgresql_conf
        };
        let old = "port=1\n# no = setting\nPort = '5433'\nx";
        assert_eq!(text(Some(old), Some("port=5432")).unwrap(), "port=5432\nport=5433");
        assert_eq!(text(Some("work_mem=1MB"), Some("port=5432")).unwrap(), "port=5432");
        assert_eq!(text(Some("port=1;2"), Some("a=b")).unwrap(), "a=b");
        assert_eq!(text(None, Some("port=5432")).unwrap(), "port=5432");
        assert_eq!(text(Some(old), None), None);
    }
}
