//! Tests of the plan; no server is needed.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const MD5: &str = "0123456789abcdef0123456789abcdef";
const SCRAM: &str = "SCRAM-SHA-256$4096:AAEC==$MDEy=:YWJj=";

fn spec(roles: Value, databases: Value) -> ComputeSpec {
    serde_json::from_value(json!({
        "format_version": 1, "suspend_timeout_seconds": 0,
        "cluster": {"roles": roles, "databases": databases},
        "local_proxy_config": {"jwks": [{
            "id": "1", "role_names": ["web"], "jwks_url": "u", "provider_name": "p"}]}
    }))
    .unwrap()
}

fn snapshot_of(roles: &[(&str, Option<&str>)], databases: &[(&str, &str)]) -> Snapshot {
    let password = |text: &str| Secret::new(text.to_owned());
    Snapshot {
        roles: roles
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.map(password)))
            .chain([("boss".to_owned(), None)])
            .collect(),
        databases: databases
            .iter()
            .map(|(name, owner)| ((*name).to_owned(), (*owner).to_owned()))
            .collect(),
        has_neon_schema: true,
    }
}

fn sql(spec: &ComputeSpec, snapshot: &Snapshot) -> Vec<String> {
    let plan = plan(spec, "boss", snapshot).unwrap();
    plan.operations.iter().map(|operation| operation.sql.expose().clone()).collect()
}

#[test]
fn a_new_cluster_gets_the_privileged_role_and_the_schema() {
    assert_eq!(
        sql(&spec(json!([]), json!([])), &Snapshot::default()),
        [
            "CREATE ROLE \"boss\" CREATEDB CREATEROLE NOLOGIN REPLICATION BYPASSRLS \
             IN ROLE pg_read_all_data, pg_write_all_data",
            "CREATE SCHEMA IF NOT EXISTS neon"
        ]
    );
    assert!(sql(&spec(json!([]), json!([])), &snapshot_of(&[], &[])).is_empty());
}

#[test]
fn new_roles() {
    let roles = json!([
        {"name": "ann", "encrypted_password": SCRAM},
        {"name": "old \"timer\"", "encrypted_password": MD5,
            "options": [{"name": "CONNECTION LIMIT", "value": "5", "vartype": "integer"}]},
        {"name": "web"}
    ]);
    let create = "INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE \"boss\"";
    assert_eq!(
        sql(&spec(roles, json!([])), &snapshot_of(&[], &[])),
        [
            format!("CREATE ROLE \"ann\" {create}  LOGIN PASSWORD '{SCRAM}'"),
            format!(
                "CREATE ROLE \"old \"\"timer\"\"\" {create} CONNECTION LIMIT 5 \
                 LOGIN PASSWORD 'md5{MD5}'"
            ),
            "CREATE ROLE \"web\"  LOGIN PASSWORD NULL".to_owned(),
        ]
    );
}

#[test]
fn roles_are_altered_exactly_when_the_password_differs() {
    let md5 = format!("md5{MD5}");
    for (stored, wanted, altered) in [
        (None, Value::Null, false),
        (Some(SCRAM), json!(SCRAM), false),
        (Some(md5.as_str()), json!(MD5), false),
        (Some("x"), Value::Null, true),
        (None, json!(MD5), true),
        (Some(md5.as_str()), json!(SCRAM), true),
        (Some(MD5), json!(MD5), true),
    ] {
        for name in ["r", "web", "cloud_admin"] {
            let roles = json!([{"name": name, "encrypted_password": wanted}]);
            let plan = sql(&spec(roles, json!([])), &snapshot_of(&[(name, stored)], &[]));
            assert_eq!(plan.len(), usize::from(altered), "{stored:?} {wanted}");
            // Never more than options, LOGIN and password.
            let prefix = format!("ALTER ROLE \"{name}\"  LOGIN PASSWORD ");
            assert!(plan.iter().all(|sql| sql.starts_with(&prefix)), "{plan:?}");
        }
    }
}

#[test]
fn databases() {
    let databases = json!([
        {"name": "new", "owner": "a\"b",
            "options": [{"name": "TEMPLATE", "value": "template0", "vartype": "enum"}]},
        {"name": "new", "owner": "a\"b"},
        {"name": "same", "owner": "\"q"},
        {"name": "postgres", "owner": "ann"}
    ]);
    let snapshot =
        snapshot_of(&[], &[("same", "\"q"), ("postgres", "cloud_admin"), ("other", "x")]);
    let spec = spec(json!([]), databases);
    assert_eq!(
        sql(&spec, &snapshot),
        [
            "CREATE DATABASE \"new\" TEMPLATE template0 OWNER \"a\"\"b\"",
            "GRANT ALL PRIVILEGES ON DATABASE \"new\" TO \"boss\"",
            "ALTER DATABASE \"postgres\" OWNER TO \"ann\""
        ]
    );
    let alone: Vec<bool> =
        plan(&spec, "boss", &snapshot).unwrap().operations.iter().map(|op| op.alone).collect();
    assert_eq!(alone, [true, false, false]);
}

#[test]
fn names_that_postgres_would_cut_are_refused_before_anything_happens() {
    let long = "x".repeat(64);
    let roles = spec(json!([{"name": long}]), json!([]));
    let databases = spec(json!([]), json!([{"name": long, "owner": "o"}]));
    for (spec, kind) in [(roles, "role"), (databases, "database")] {
        let error = plan(&spec, "boss", &Snapshot::default()).unwrap_err().to_string();
        assert!(error.contains(kind) && error.contains("64 bytes"), "{error}");
    }
    let fits = spec(json!([{"name": "x".repeat(63)}]), json!([]));
    assert!(plan(&fits, "boss", &Snapshot::default()).is_ok());
}

#[test]
fn texts_that_postgres_would_hash_are_remarked_upon() {
    let upper = MD5.to_uppercase();
    let prefixed = format!("md5{MD5}");
    for (password, remarks) in [
        (MD5, 0),
        (SCRAM, 0),
        ("", 1),
        (upper.as_str(), 1),
        (prefixed.as_str(), 1),
        ("SCRAM-SHA-256", 1),
        ("SCRAM-SHA-256$4096:a$b", 1),
    ] {
        let spec = spec(json!([{"name": "r", "encrypted_password": password}]), json!([]));
        let plan = plan(&spec, "boss", &snapshot_of(&[], &[])).unwrap();
        assert_eq!(plan.remarks.len(), remarks, "{password}");
    }
}

#[test]
fn neither_plan_nor_snapshot_prints_verifiers() {
    let spec = spec(json!([{"name": "r", "encrypted_password": "planted"}]), json!([]));
    let snapshot = snapshot_of(&[("r", Some("planted"))], &[]);
    let plan = plan(&spec, "boss", &snapshot).unwrap();
    assert_eq!(plan.operations.len(), 1);
    assert!(!format!("{plan:?} {snapshot:?}").contains("planted"));
}

proptest! {
    /// 05 §6: a repeated apply of the same spec has nothing to do.
    #[test]
    fn applying_twice_is_applying_once(
        roles in prop::collection::hash_map("[a-c\"' ]{1,3}", prop::option::of("[a-f0-9]{32}"), 0..4),
        databases in prop::collection::hash_map("[a-c\"' ]{1,3}", "[a-c\"]{1,2}", 0..4),
        old in prop::collection::hash_map("[a-c\"' ]{1,3}", "[a-c\"]{1,2}", 0..4),
    ) {
        let role = |(name, password)| json!({"name": name, "encrypted_password": password});
        let database = |(name, owner)| json!({"name": name, "owner": owner});
        let spec = spec(
            roles.iter().map(role).collect(),
            databases.iter().map(database).collect(),
        );
        let before = Snapshot { databases: old, ..Snapshot::default() };
        let first = plan(&spec, "boss", &before).unwrap();
        prop_assert!(first.operations.len() >= 2 + roles.len());

        let mut after = before;
        after.has_neon_schema = true;
        after.roles.insert("boss".to_owned(), None);
        for role in &spec.cluster.roles {
            after.roles.insert(role.name.clone(), stored_password(role).map(Secret::new));
        }
        after.databases.extend(databases);
        prop_assert_eq!(plan(&spec, "boss", &after).unwrap(), Plan::default());
    }
}
