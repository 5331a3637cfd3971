//! Tests of the plan; no server is needed.

mod databases;
mod lakebase;
mod outlines;
mod roles;

use super::*;
use crate::catalog::passwords::password_text;
use crate::catalog::snapshot::{
    DatabaseRow, Dependency, ExtensionRow, Outline, StoredPassword, SubscriptionRow,
};
use crate::spec::ComputeSpec;
use proptest::prelude::*;
use serde_json::{Value, json};

const MD5: &str = "0123456789abcdef0123456789abcdef";
const SCRAM: &str = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$\
    zHCdol2044/ZyWzPLi7oxApCkamKw9Z+E4U/QApd/5Y=:dd5peBOitVnLNFu7VmwP+HiDaaw4OUCv396eVCWhYiE=";

/// A spec with these members, those of `cluster` among them.
fn spec(members: Value) -> ComputeSpec {
    let mut document = json!({
        "format_version": 1, "suspend_timeout_seconds": 0,
        "cluster": {"roles": [], "databases": []},
        "local_proxy_config": {"jwks": [{
            "id": "1", "role_names": ["web"], "jwks_url": "u", "provider_name": "p"}]}
    });
    for (name, value) in members.as_object().unwrap() {
        let in_cluster = ["roles", "databases", "settings"].contains(&name.as_str());
        let place = if in_cluster { &mut document["cluster"] } else { &mut document };
        place[name] = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

/// A cluster in which the program has nothing left to do, with these roles and databases added.
fn cluster(roles: &[(&str, Option<&str>)], databases: &[(&str, &str)]) -> ClusterState {
    let known = |text: Option<&str>| StoredPassword::Known(text.map(|t| Secret::new(t.to_owned())));
    let row = |owner: &str| DatabaseRow { owner: Some(owner.to_owned()), ..DatabaseRow::default() };
    let initial = |template| DatabaseRow { initial: true, template, ..row("cloud_admin") };
    let all_roles = [("boss", None), ("cloud_admin", None)].into_iter();
    let all_roles = all_roles.chain(roles.iter().copied());
    let mut state = ClusterState {
        server_version: 160_002,
        max_connections: 100,
        system_database: "postgres".to_owned(),
        session_role: "cloud_admin".to_owned(),
        roles: all_roles.map(|(name, text)| (name.to_owned(), known(text))).collect(),
        has_neon_schema: true,
        has_health_check: true,
        ..ClusterState::default()
    };
    state.databases.insert("postgres".to_owned(), initial(false));
    state.databases.insert("template1".to_owned(), initial(true));
    for (name, owner) in databases {
        state.databases.insert((*name).to_owned(), row(owner));
    }
    state
}

fn planned(spec: &ComputeSpec, state: &ClusterState) -> ClusterPlan {
    let wanted = Wanted { spec, timeline: "ab", privileged_role: "boss", look_everywhere: false };
    plan_cluster(&wanted, state.clone()).unwrap()
}

fn refused(spec: &ComputeSpec) -> String {
    let wanted = Wanted { spec, timeline: "ab", privileged_role: "boss", look_everywhere: false };
    plan_cluster(&wanted, cluster(&[], &[])).unwrap_err().to_string()
}

fn sql(spec: &ComputeSpec, state: &ClusterState) -> Vec<String> {
    planned(spec, state).operations().map(|op| op.sql.expose().clone()).collect()
}

/// Phases in the order in which they happen, each once.
fn phases(plan: &ClusterPlan) -> Vec<CatalogStep> {
    let mut phases: Vec<CatalogStep> = plan.operations().map(|op| op.phase).collect();
    phases.dedup();
    phases
}

#[test]
fn a_new_cluster() {
    let mut state = cluster(&[], &[]);
    state.roles.remove("boss");
    (state.has_neon_schema, state.has_health_check) = (false, false);
    let plan = planned(&spec(json!({})), &state);
    assert_eq!(
        phases(&plan),
        [CatalogStep::PrivilegedRole, CatalogStep::NeonSchema, CatalogStep::AvailabilityCheck]
    );
    assert_eq!(plan.stages.len(), 2, "what touches the system database waits for the role");
    let first = plan.operations().next().unwrap();
    assert_eq!(
        first.sql.expose(),
        "CREATE ROLE \"boss\" CREATEDB CREATEROLE NOLOGIN REPLICATION BYPASSRLS \
         IN ROLE pg_read_all_data, pg_write_all_data"
    );
    assert_eq!(plan.notes.len(), 1, "no extension on this server: {:?}", plan.notes);
    assert!(planned(&spec(json!({})), &cluster(&[], &[])).stages.is_empty());
}

#[test]
fn the_neon_extension() {
    let extension = |version: &str, schema: &str, relocatable| ExtensionRow {
        version: version.to_owned(),
        schema: schema.to_owned(),
        relocatable,
    };
    let mut state = cluster(&[], &[]);
    state.neon_default_version = Some("1.6".to_owned());
    for (installed, expected) in [
        (None, vec!["create"]),
        (Some(extension("1.6", "neon", true)), vec![]),
        (Some(extension("1.5", "neon", true)), vec!["update"]),
        (Some(extension("1.1", "public", false)), vec!["make relocatable", "move", "update"]),
    ] {
        state.extensions = installed.into_iter().map(|row| ("neon".to_owned(), row)).collect();
        let plan = planned(&spec(json!({})), &state);
        let actions: Vec<_> = plan.operations().map(|op| op.action.to_string()).collect();
        assert_eq!(actions, expected);
        assert!(plan.notes.is_empty());
    }
}

#[test]
fn a_schema_neon_of_a_tenant_is_left_alone() {
    let mut state = cluster(&[], &[]);
    state.neon_default_version = Some("1.6".to_owned());
    state.neon_schema_of_others = Some("ann".to_owned());
    let plan = planned(&spec(json!({})), &state);
    assert!(plan.stages.is_empty(), "{:?}", phases(&plan));
    assert!(plan.remarks.iter().any(|remark| remark.contains("\"ann\"")), "{:?}", plan.remarks);
    let spec = spec(json!({"drop_subscriptions_before_start": true}));
    let wanted =
        Wanted { spec: &spec, timeline: "ab", privileged_role: "boss", look_everywhere: false };
    let error = plan_cluster(&wanted, state).unwrap_err();
    assert_eq!(error, PlanError::NeonSchemaOfOthers("ann".to_owned()));
}

#[test]
fn statistics_and_audit() {
    let preload = json!([
        {"name": "shared_preload_libraries", "value": "neon,pg_stat_statements", "vartype": "string"}]);
    let state = cluster(&[], &[]);
    let statistics = planned(&spec(json!({"settings": preload})), &state);
    assert_eq!(phases(&statistics), [CatalogStep::StatementStatistics]);
    for (level, expected) in [
        ("Disabled", vec![]),
        ("Log", vec![CatalogStep::Audit, CatalogStep::SilenceAudit]),
        ("Extended", vec![CatalogStep::Audit, CatalogStep::AuditFile, CatalogStep::SilenceAudit]),
        ("Full", vec![CatalogStep::Audit, CatalogStep::AuditFile, CatalogStep::SilenceAudit]),
    ] {
        let spec = spec(json!({"audit_log_level": level}));
        assert_eq!(phases(&planned(&spec, &state)), expected, "{level}");
        let row = ExtensionRow {
            version: "1".to_owned(),
            schema: "public".to_owned(),
            relocatable: true,
        };
        let mut done = state.clone();
        done.audit_silenced = true;
        done.extensions =
            ["pgaudit", "pgauditlogtofile"].map(|n| (n.to_owned(), row.clone())).into();
        assert!(planned(&spec, &done).stages.is_empty());
    }
}

#[test]
fn of_two_entries_the_last_one_counts() {
    let spec = spec(json!({
        "roles": [{"name": "r", "encrypted_password": MD5}, {"name": "r"}],
        "databases": [{"name": "d", "owner": "cloud_admin"}, {"name": "d", "owner": "r"}]
    }));
    let plan = sql(&spec, &cluster(&[], &[]));
    assert_eq!(plan.len(), 4, "{plan:?}");
    assert!(plan[0].ends_with("LOGIN PASSWORD NULL") && plan[2].ends_with("OWNER TO \"r\""));
}

/// Statements that a transaction refuses get a chain each, and stand between those that share one.
#[test]
fn what_must_be_sent_alone_shares_no_chain() {
    let plan = planned(&spec(json!({"roles": [{"name": "r"}]})), &cluster(&[], &[]));
    let operation = plan.operations().next().unwrap();
    let operations = [false, false, true, true, false, false, true];
    let operations = operations.map(|alone| Operation { alone, ..operation.clone() });
    let stages = in_order(operations.into());
    let shape = |stage: &Stage| {
        let chain = |chain: &Chain| chain.first.iter().map(|it| it.alone).collect::<Vec<_>>();
        stage.iter().map(chain).collect::<Vec<_>>()
    };
    assert_eq!(
        stages.iter().map(shape).collect::<Vec<_>>(),
        [
            vec![vec![false, false]],
            vec![vec![true], vec![true]],
            vec![vec![false, false]],
            vec![vec![true]],
        ]
    );
}

#[test]
fn an_option_without_a_value_causes_a_remark() {
    let options = json!([{"name": "CONNECTION LIMIT", "vartype": "integer"}]);
    let spec = spec(json!({
        "roles": [{"name": "r", "options": options}],
        "databases": [{"name": "d", "owner": "r", "options": options}]
    }));
    assert_eq!(
        planned(&spec, &cluster(&[], &[])).remarks,
        [
            "option \"CONNECTION LIMIT\" of role \"r\" has no value and is left out",
            "option \"CONNECTION LIMIT\" of database \"d\" has no value and is left out",
        ]
    );
}

#[test]
fn what_cannot_be_applied_is_refused_before_anything_happens() {
    let long = "x".repeat(64);
    let option = json!([{"name": "X", "value": "1; DROP ROLE boss", "vartype": "integer"}]);
    let delta = |action: &str, name: &str| json!([{"action": action, "name": name}]);
    let to = |action: &str, new_name: &str| json!([{"action": action, "name": "d", "new_name": new_name}]);
    let text = |value: &str| json!([{"name": "X", "value": value, "vartype": "string"}]);
    for (members, part) in [
        (json!({"roles": [{"name": long}]}), "64 bytes"),
        (json!({"databases": [{"name": long, "owner": "boss"}]}), "64 bytes"),
        (json!({"databases": [{"name": "d", "owner": long}]}), "64 bytes"),
        (json!({"roles": [{"name": ""}]}), "at least one character"),
        (json!({"roles": [{"name": "a\0b"}]}), "at least one character"),
        (json!({"databases": [{"name": "d", "owner": "nobody"}]}), "\"nobody\" does not exist"),
        (json!({"roles": [{"name": "r", "options": option}]}), "not one piece"),
        (
            json!({"databases": [{"name": "d", "owner": "boss", "options": option}]}),
            "not one piece",
        ),
        (json!({"delta_operations": delta("rename_role", "r")}), "has no new_name"),
        (json!({"delta_operations": delta("rename_db", "d")}), "has no new_name"),
        (json!({"delta_operations": delta("delete_db", "postgres")}), "--connstr"),
        (json!({"delta_operations": delta("delete_db", &long)}), "64 bytes"),
        (json!({"delta_operations": to("rename_db", &long)}), "64 bytes"),
        (json!({"delta_operations": to("rename_role", "")}), "at least one character"),
        (json!({"roles": [{"name": "r", "options": text("a\0b")}]}), "not one piece"),
        (json!({"delta_operations": delta("delete_role", &long)}), "64 bytes"),
        (
            json!({"delta_operations": delta("delete_role", "cloud_admin")}),
            "the role of compute_ctl itself",
        ),
    ] {
        let error = refused(&spec(members.clone()));
        assert!(error.contains(part), "{members}: {error}");
    }
    for members in [
        json!({"roles": [{"name": "x".repeat(63)}]}),
        // A text is quoted.
        json!({"roles": [{"name": "r", "options": text("1; DROP ROLE boss")}]}),
        // A new name has no meaning here.
        json!({"roles": [{"name": "r"}], "delta_operations": to("delete_role", &long)}),
    ] {
        assert_eq!(sql(&spec(members), &cluster(&[], &[])).len(), 1);
    }
}

#[test]
fn neither_plan_nor_snapshot_prints_verifiers() {
    let spec = spec(json!({"roles": [{"name": "r", "encrypted_password": "planted"}]}));
    let state = cluster(&[("r", Some("planted"))], &[]);
    let plan = planned(&spec, &state);
    assert_eq!(plan.operations().count(), 1);
    assert!(!format!("{plan:?} {state:?}").contains("planted"));
}

proptest! {
    /// 05 §6: a repeated apply of the same spec has nothing to do.
    #[test]
    fn applying_twice_is_applying_once(
        roles in prop::collection::hash_map("[a-c\"' ]{1,3}", prop::option::of("[a-f0-9]{32}"), 0..4),
        databases in prop::collection::hash_map("[d-f\"' ]{1,3}", 0..9_usize, 0..4),
        old in prop::collection::hash_map("[d-f\"' ]{1,3}", "[a-c\"]{1,2}", 0..4),
    ) {
        let names: Vec<&str> = roles.keys().map(String::as_str).chain(["boss"]).collect();
        let owner = |at: &usize| names[at % names.len()];
        let spec = spec(json!({
            "roles": roles.iter()
                .map(|(name, text)| json!({"name": name, "encrypted_password": text}))
                .collect::<Vec<_>>(),
            "databases": databases.iter()
                .map(|(name, at)| json!({"name": name, "owner": owner(at)}))
                .collect::<Vec<_>>(),
        }));
        let old: Vec<_> = old.iter().map(|(name, owner)| (name.as_str(), owner.as_str())).collect();
        let before = cluster(&[], &old);
        prop_assert!(planned(&spec, &before).operations().count() >= roles.len());

        let mut after = before;
        for role in &spec.cluster.roles {
            let stored = password_text(role).map(Secret::new);
            after.roles.insert(role.name.clone(), StoredPassword::Known(stored));
        }
        for (name, at) in &databases {
            let row = DatabaseRow { owner: Some(owner(at).to_owned()), ..DatabaseRow::default() };
            after.databases.insert(name.clone(), row);
        }
        let plan = planned(&spec, &after);
        prop_assert_eq!(plan.operations().count(), 0);
        prop_assert_eq!(plan.unchanged.len(), 1 + roles.len() + databases.len());
    }
}
