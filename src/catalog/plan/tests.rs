//! Tests of the plan; no server is needed.

use super::*;
use crate::catalog::quote::stored_password;
use crate::catalog::snapshot::{
    DatabaseRow, Dependency, ExtensionRow, StoredPassword, SubscriptionRow,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const MD5: &str = "0123456789abcdef0123456789abcdef";
const SCRAM: &str = "SCRAM-SHA-256$4096:AAEC==$MDEy=:YWJj=";

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

/// A cluster in which the program has nothing left to do, with these besides.
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
    let wanted = Wanted { spec, timeline: "ab", privileged_role: "boss" };
    plan_cluster(&wanted, state.clone()).unwrap()
}

fn refused(spec: &ComputeSpec) -> String {
    let wanted = Wanted { spec, timeline: "ab", privileged_role: "boss" };
    plan_cluster(&wanted, cluster(&[], &[])).unwrap_err().to_string()
}

fn sql(spec: &ComputeSpec, state: &ClusterState) -> Vec<String> {
    planned(spec, state).operations().map(|op| op.sql.expose().clone()).collect()
}

/// Phases in the order in which they happen, each once.
fn phases(plan: &ClusterPlan) -> Vec<Phase> {
    let mut phases: Vec<Phase> = plan.operations().map(|op| op.phase).collect();
    phases.dedup();
    phases
}

#[test]
fn a_new_cluster() {
    let mut state = cluster(&[], &[]);
    state.roles.remove("boss");
    (state.has_neon_schema, state.has_health_check) = (false, false);
    let plan = planned(&spec(json!({})), &state);
    assert_eq!(phases(&plan), [Phase::PrivilegedRole, Phase::NeonSchema, Phase::AvailabilityCheck]);
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
fn new_roles() {
    let spec = spec(json!({"roles": [
        {"name": "ann", "encrypted_password": SCRAM},
        {"name": "old \"timer\"", "encrypted_password": MD5,
            "options": [{"name": "CONNECTION LIMIT", "value": "5", "vartype": "integer"}]},
        {"name": "web"}
    ]}));
    let create = "INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE \"boss\"";
    assert_eq!(
        sql(&spec, &cluster(&[], &[])),
        [
            format!("CREATE ROLE \"ann\" {create}  LOGIN PASSWORD '{SCRAM}'"),
            format!(
                "CREATE ROLE \"old \"\"timer\"\"\" {create} CONNECTION LIMIT 5 \
                 LOGIN PASSWORD 'md5{MD5}'"
            ),
            "CREATE ROLE \"web\"  LOGIN PASSWORD NULL".to_owned(),
        ]
    );
    // One message for all of them.
    assert_eq!(planned(&spec, &cluster(&[], &[])).stages.len(), 1);
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
            let spec = spec(json!({"roles": [{"name": name, "encrypted_password": wanted}]}));
            let plan = sql(&spec, &cluster(&[(name, stored)], &[]));
            assert_eq!(plan.len(), usize::from(altered), "{stored:?} {wanted}");
            // Never more than options, LOGIN and password.
            let prefix = format!("ALTER ROLE \"{name}\"  LOGIN PASSWORD ");
            assert!(plan.iter().all(|sql| sql.starts_with(&prefix)), "{plan:?}");
        }
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

#[test]
fn roles_are_renamed_once() {
    let delta =
        |old: &str, new: &str| json!({"action": "rename_role", "name": old, "new_name": new});
    let spec = spec(json!({
        "roles": [{"name": "new", "encrypted_password": MD5}],
        "databases": [{"name": "d", "owner": "new"}],
        "delta_operations": [delta("old", "new"), delta("gone", "x"), delta("boss", "new")]
    }));
    let md5 = format!("md5{MD5}");
    let state = cluster(&[("old", Some(&md5))], &[("d", "old")]);
    let plan = planned(&spec, &state);
    assert_eq!(
        sql(&spec, &state),
        [
            "ALTER ROLE \"old\" RENAME TO \"new\"".to_owned(),
            format!("ALTER ROLE \"new\"  LOGIN PASSWORD '{md5}'"),
        ]
    );
    assert_eq!(plan.remarks.len(), 2, "{:?}", plan.remarks);
    // The same again, on what that led to.
    let after = cluster(&[("new", Some(&md5))], &[("d", "new")]);
    assert!(sql(&spec, &after).is_empty());
}

#[test]
fn databases() {
    let spec = spec(json!({"databases": [
        {"name": "new", "owner": "a\"b",
            "options": [{"name": "TEMPLATE", "value": "template0", "vartype": "enum"}]},
        {"name": "same", "owner": "\"q"},
        {"name": "postgres", "owner": "ann"},
        {"name": "admins", "owner": "cloud_admin"}
    ]}));
    let roles = [("a\"b", None), ("\"q", None), ("ann", None)];
    let state = cluster(&roles, &[("same", "\"q"), ("other", "x")]);
    let plan = planned(&spec, &state);
    let all: Vec<Vec<&str>> = plan.stages[0]
        .iter()
        .map(|chain| chain.first.iter().map(|op| op.sql.expose().as_str()).collect())
        .collect();
    assert_eq!(
        all,
        [
            vec![
                "CREATE DATABASE \"new\" TEMPLATE template0",
                "ALTER DATABASE \"new\" OWNER TO \"a\"\"b\"",
                "GRANT ALL PRIVILEGES ON DATABASE \"new\" TO \"boss\"",
            ],
            vec![
                "CREATE DATABASE \"admins\" ",
                "GRANT ALL PRIVILEGES ON DATABASE \"admins\" TO \"boss\"",
            ],
            vec!["ALTER DATABASE \"postgres\" OWNER TO \"ann\""],
        ]
    );
    let alone: Vec<bool> = plan.stages[0][0].first.iter().map(|op| op.alone).collect();
    assert_eq!(alone, [true, false, false]);
    // Every listed database is looked into, the new ones as new ones.
    let looks: Vec<_> = plan.stages[1].iter().map(|chain| chain.look.clone().unwrap()).collect();
    assert_eq!(looks.len(), 4);
    assert_eq!((looks[0].before.as_deref(), looks[1].before.as_deref()), (None, Some("same")));
}

#[test]
fn an_interrupted_creation_is_finished() {
    let spec = spec(json!({"databases": [{"name": "d", "owner": "boss"}]}));
    let mut state = cluster(&[], &[("d", "cloud_admin")]);
    state.databases.get_mut("d").unwrap().default_acl = true;
    assert_eq!(
        sql(&spec, &state),
        [
            "ALTER DATABASE \"d\" OWNER TO \"boss\"",
            "GRANT ALL PRIVILEGES ON DATABASE \"d\" TO \"boss\""
        ]
    );
    // Somebody has seen to its privileges, or initdb has made it: nobody was interrupted.
    let grants = |state: &ClusterState| sql(&spec, state).iter().any(|sql| sql.contains("GRANT"));
    state.databases.get_mut("d").unwrap().default_acl = false;
    assert!(!grants(&state));
    *state.databases.get_mut("d").unwrap() =
        DatabaseRow { default_acl: true, ..state.databases["postgres"].clone() };
    assert!(!grants(&state));
}

#[test]
fn databases_go_and_change_names_in_the_order_of_the_list() {
    let spec = spec(json!({
        "databases": [{"name": "b", "owner": "boss"}, {"name": "a", "owner": "boss"}],
        "delta_operations": [
            {"action": "delete_db", "name": "gone"},
            {"action": "delete_db", "name": "b"},
            {"action": "rename_db", "name": "a", "new_name": "b"},
            {"action": "rename_db", "name": "gone", "new_name": "c"},
            {"action": "paint_db", "name": "b"}
        ]
    }));
    let mut state = cluster(&[], &[("a", "boss"), ("b", "boss")]);
    state.databases.get_mut("b").unwrap().template = true;
    let plan = planned(&spec, &state);
    let what: Vec<String> = plan.operations().map(ToString::to_string).collect();
    assert_eq!(
        what,
        [
            "clear the template flag of database \"b\"",
            "drop database \"b\"",
            "end sessions in database \"a\"",
            "rename database \"a\"",
            "create database \"a\"",
            "change the owner of database \"a\"",
            "grant privileges on database \"a\"",
        ]
    );
    let drop = plan.operations().nth(1).unwrap();
    assert_eq!(drop.sql.expose(), "DROP DATABASE IF EXISTS \"b\" WITH (FORCE)");
    let inside = plan.stages.last().unwrap();
    assert_eq!(inside[0].look.as_ref().unwrap().before.as_deref(), Some("b"));
}

#[test]
fn what_interrupted_drops_left_goes_first() {
    let spec = spec(json!({"databases": [{"name": "listed", "owner": "boss"}]}));
    let mut state = cluster(&[], &[("listed", "boss"), ("other", "boss")]);
    for name in ["listed", "other"] {
        state.databases.get_mut(name).unwrap().invalid = true;
    }
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [Phase::InvalidDatabases, Phase::Databases]);
    assert_eq!(plan.stages[0].len(), 2, "both at the same time");
    assert_eq!(plan.stages[2][0].look.as_ref().unwrap().owner, "boss");
}

#[test]
fn deleted_roles_are_cleaned_up_where_they_hold_something() {
    let spec = spec(json!({
        "databases": [{"name": "a", "owner": "ann"}, {"name": "b", "owner": "ann"}],
        "delta_operations": [
            {"action": "delete_role", "name": "g"},
            {"action": "delete_role", "name": "nobody"},
        ]
    }));
    let mut state =
        cluster(&[("ann", None), ("g", None)], &[("a", "ann"), ("b", "ann"), ("c", "g")]);
    let held = |database: Option<&str>| Dependency {
        role: "g".to_owned(),
        database: database.map(str::to_owned),
    };
    state.dependencies = vec![held(None), held(Some("a")), held(Some("c"))];
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [Phase::InsideDatabases, Phase::DropRoles]);
    let shared = &plan.stages[0][0];
    assert_eq!((&*shared.database, shared.first.len()), ("postgres", 3));
    assert_eq!(shared.first[0].sql.expose(), "REASSIGN OWNED BY \"g\" TO \"cloud_admin\"");
    let inside = &plan.stages[1];
    assert_eq!(inside[0].first[0].sql.expose(), "REASSIGN OWNED BY \"g\" TO \"ann\"");
    assert_eq!((inside[0].first.len(), inside[1].first.len()), (3, 0));
    assert!(plan.remarks.iter().any(|remark| remark.contains("\"c\"")), "{:?}", plan.remarks);

    // Nothing anywhere: it is just dropped. Listed as an owner: not in that database.
    state.dependencies.clear();
    assert_eq!(sql(&spec, &state), ["DROP ROLE IF EXISTS \"g\""]);
}

#[test]
fn nothing_is_done_inside_a_database_that_lets_nobody_in() {
    let spec = spec(json!({"databases": [{"name": "d", "owner": "boss"}]}));
    let mut state = cluster(&[], &[("d", "ann")]);
    state.databases.get_mut("d").unwrap().restricted = true;
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [Phase::Databases]);
    assert_eq!((plan.stages.len(), plan.remarks.len()), (1, 1));
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
fn statistics_and_audit() {
    let preload = json!([
        {"name": "shared_preload_libraries", "value": "neon,pg_stat_statements", "vartype": "string"}]);
    let state = cluster(&[], &[]);
    let statistics = planned(&spec(json!({"settings": preload})), &state);
    assert_eq!(phases(&statistics), [Phase::StatementStatistics]);
    for (level, expected) in [
        ("Disabled", vec![]),
        ("Log", vec![Phase::Audit, Phase::SilenceAudit]),
        ("Extended", vec![Phase::Audit, Phase::AuditFile, Phase::SilenceAudit]),
        ("Full", vec![Phase::Audit, Phase::AuditFile, Phase::SilenceAudit]),
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

fn with_subscriptions(databases: &[&str]) -> ClusterState {
    let all: Vec<_> = databases.iter().map(|name| (*name, "boss")).collect();
    let mut state = cluster(&[], &all);
    let numbered = databases.iter().zip(100..);
    state.subscriptions =
        numbered.map(|(name, oid)| SubscriptionRow { oid, database: (*name).to_owned() }).collect();
    state
}

#[test]
fn inherited_subscriptions_are_dropped_once() {
    let spec = spec(json!({
        "drop_subscriptions_before_start": true,
        "databases": [{"name": "listed", "owner": "boss"}]
    }));
    let mut state = with_subscriptions(&["listed", "unlisted"]);
    let plan = planned(&spec, &state);
    let (remember, inside, record) =
        (Phase::RememberSubscriptions, Phase::InsideDatabases, Phase::RecordSubscriptions);
    assert_eq!(phases(&plan), [remember, inside, record]);
    let written = plan.operations().nth(1).unwrap().sql.expose();
    assert!(written.ends_with("VALUES ('ab', '{100,101}')"), "{written}");
    let drops: Vec<_> =
        plan.operations().filter(|op| op.action == Action::DropSubscriptions).collect();
    assert_eq!(drops.len(), 2);
    assert!(drops[0].sql.expose().contains("s.oid IN (100)"));
    assert_eq!(&*drops[1].database, "unlisted");

    // Interrupted: only what was written down, even though there are others now.
    state.subscriptions_todo = Some(vec![101]);
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [inside, record]);
    let drops = plan.operations().filter(|op| op.action == Action::DropSubscriptions);
    assert_eq!(drops.map(|op| &*op.database).collect::<Vec<_>>(), ["unlisted"]);

    // One out of reach: not marked, and the others are not dropped again.
    state.subscriptions_todo = Some(vec![101]);
    state.databases.get_mut("unlisted").unwrap().restricted = true;
    let plan = planned(&spec, &state);
    assert!(phases(&plan).is_empty());
    assert!(plan.remarks.iter().any(|remark| remark.contains("unlisted")), "{:?}", plan.remarks);

    state.subscriptions_done = true;
    assert!(phases(&planned(&spec, &state)).is_empty());
}

#[test]
fn databases_to_be_deleted_lose_their_subscriptions_first() {
    let spec = spec(json!({"delta_operations": [{"action": "delete_db", "name": "d"}]}));
    let plan = planned(&spec, &with_subscriptions(&["d", "other"]));
    assert_eq!(phases(&plan), [Phase::PreDrop, Phase::RemoveDatabases]);
    assert_eq!(&*plan.stages[0][0].database, "d");
}

#[test]
fn inside_a_database() {
    let look = Look { owner: "ann".to_owned(), before: None };
    let permissions = |major, web_access| Permissions {
        privileged_role: "boss".to_owned(),
        session_role: "cloud_admin".into(),
        major,
        web_access,
    };
    let sql = |permissions: &Permissions, state: &DatabaseState| -> Vec<String> {
        let operations = plan_database(&"d".into(), &look, permissions, state);
        operations.iter().map(|op| op.sql.expose().clone()).collect()
    };
    let defaults = ["TABLES", "SEQUENCES"].map(|kind| {
        format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO \"boss\" \
             WITH GRANT OPTION"
        )
    });
    let old = permissions(14, false);
    let mut expected = vec!["ALTER SCHEMA public OWNER TO \"ann\"".to_owned()];
    expected.extend(defaults.clone());
    assert_eq!(sql(&old, &DatabaseState::fresh(&old)), expected);
    let new = permissions(16, true);
    let mut expected = vec!["GRANT CREATE ON SCHEMA public TO web_access".to_owned()];
    expected.extend(defaults);
    assert_eq!(sql(&new, &DatabaseState::fresh(&new)), expected);
    assert!(sql(&new, &DatabaseState::default()).is_empty(), "no schema public");
    let done = DatabaseState {
        public_owner: Some("ann".to_owned()),
        web_access: true,
        default_tables: true,
        default_sequences: true,
    };
    assert!(sql(&new, &done).is_empty());
}

#[test]
fn what_cannot_be_applied_is_refused_before_anything_happens() {
    let long = "x".repeat(64);
    let option = json!([{"name": "X", "value": "1; DROP ROLE boss", "vartype": "integer"}]);
    let delta = |action: &str, name: &str| json!([{"action": action, "name": name}]);
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
        (json!({"delta_operations": delta("delete_role", &long)}), "64 bytes"),
    ] {
        let error = refused(&spec(members.clone()));
        assert!(error.contains(part), "{members}: {error}");
    }
    let fits = spec(json!({"roles": [{"name": "x".repeat(63)}]}));
    assert_eq!(sql(&fits, &cluster(&[], &[])).len(), 1);
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
        let spec = spec(json!({"roles": [{"name": "r", "encrypted_password": password}]}));
        assert_eq!(planned(&spec, &cluster(&[], &[])).remarks.len(), remarks, "{password}");
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
            let stored = stored_password(role).map(Secret::new);
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
