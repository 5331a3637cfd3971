//! What Lakebase mode adds (05 §22).

use super::*;
use crate::catalog::lakebase::LakebaseState;

const ROLES: [&str; 3] = ["databricks_monitor", "databricks_control_plane", "databricks_gateway"];
const HELD: [&str; 6] = [
    "neon",
    "public.health_check",
    "pg_ls_dir(text)",
    "neon.neon_perf_counters",
    "neon.get_perf_counters()",
    "statement_timeout",
];

#[test]
fn a_new_cluster_in_this_mode() {
    let mut state = cluster(&[], &[]);
    state.roles.remove("boss");
    state.neon_default_version = Some("1.6".to_owned());
    state.lakebase = Some(LakebaseState { has_auth: true, ..LakebaseState::default() });
    let spec = spec(json!({}));
    let plan = planned(&spec, &state);
    assert_eq!(
        phases(&plan),
        [
            CatalogStep::PrivilegedRole,
            CatalogStep::LakebaseRoles,
            CatalogStep::NeonExtension,
            CatalogStep::DatabricksAuth,
            CatalogStep::MonitorPrivileges
        ]
    );
    let sql = sql(&spec, &state);
    assert!(!sql[0].contains("REPLICATION"), "{}", sql[0]);
    assert_eq!(
        sql[1..4],
        [
            "CREATE ROLE databricks_monitor LOGIN PASSWORD NULL IN ROLE pg_monitor",
            "CREATE ROLE databricks_control_plane LOGIN PASSWORD NULL SUPERUSER",
            "CREATE ROLE databricks_gateway LOGIN PASSWORD NULL",
        ]
    );
    let grants = sql.iter().filter(|sql| sql.ends_with("TO databricks_monitor")).count();
    assert_eq!(grants, 5, "{sql:?}");
    let check = sql.last().unwrap();
    assert!(check.contains("health_check") && !check.contains("@TRUST@"), "{check}");
    assert!(check.contains("BEGIN") && check.contains("INSERT"), "{check}");
}

#[test]
fn what_is_there_is_left_alone_except_the_extension() {
    let roles = ROLES.map(|name| (name, None));
    let mut state = cluster(&roles, &[]);
    let body = crate::catalog::plan::lakebase::write_check_body();
    state.lakebase = Some(LakebaseState {
        held: HELD.map(str::to_owned).into(),
        write_check: Some(body),
        ..LakebaseState::default()
    });
    let spec = spec(json!({}));
    let plan = planned(&spec, &state);
    assert!(plan.stages.is_empty(), "{:?}", phases(&plan));
    assert!(plan.notes.iter().any(|note| note.contains("databricks_auth")), "{:?}", plan.notes);
    if let Some(lakebase) = &mut state.lakebase {
        lakebase.has_auth = true;
        lakebase.write_check = Some("RETURN 0".to_owned());
    }
    assert_eq!(
        phases(&planned(&spec, &state)),
        [CatalogStep::DatabricksAuth, CatalogStep::MonitorPrivileges]
    );
}

#[test]
fn readers_get_their_time_out() {
    let roles = ROLES.map(|name| (name, None));
    let mut state = cluster(&roles, &[]);
    state.lakebase = Some(LakebaseState {
        reader_timeout: Some("it's 5s".to_owned()),
        readers: vec!["databricks_reader_7".to_owned()],
        held: HELD.map(str::to_owned).into(),
        ..LakebaseState::default()
    });
    let set = sql(&spec(json!({})), &state).remove(0);
    let alter = "ALTER ROLE \"databricks_reader_7\" SET statement_timeout = 'it''s 5s';";
    assert!(set.contains(alter) && set.contains("RAISE LOG"), "{set}");
    if let Some(lakebase) = &mut state.lakebase {
        lakebase.reader_timeout = None;
    }
    assert_eq!(phases(&planned(&spec(json!({})), &state)), [CatalogStep::MonitorPrivileges]);
}

#[test]
fn nothing_of_the_extension_is_granted_where_it_is_not_there() {
    let roles = ROLES.map(|name| (name, None));
    let mut state = cluster(&roles, &[]);
    state.lakebase = Some(LakebaseState::default());
    let granted = |state: &ClusterState| {
        let plan = planned(&spec(json!({})), state);
        let grants = plan.operations().filter(|op| op.phase == CatalogStep::MonitorPrivileges);
        let grants = grants.filter(|op| op.action == Action::Grant);
        grants.filter(|op| op.sql.expose().contains(" neon.")).count()
    };
    assert_eq!(granted(&state), 0, "this server does not have it");
    state.neon_default_version = Some("1.6".to_owned());
    assert_eq!(granted(&state), 2);
    state.neon_schema_of_others = Some("tenant".to_owned());
    assert_eq!(granted(&state), 0, "the schema of that name belongs to a tenant");
}
