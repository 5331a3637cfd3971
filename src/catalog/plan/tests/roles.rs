//! Phases 2, 4, 5 and 13, and the cleaning up of 9a.

use super::*;

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
    // The same spec on the result of the first apply.
    let after = cluster(&[("new", Some(&md5))], &[("d", "new")]);
    assert!(sql(&spec, &after).is_empty());
    let remarks = planned(&spec, &after).remarks;
    assert!(!remarks.iter().any(|remark| remark.contains("\"old\"")), "{remarks:?}");
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
    assert_eq!(phases(&plan), [CatalogStep::InsideDatabases, CatalogStep::DropRoles]);
    let shared = &plan.stages[0][0];
    assert_eq!((&*shared.database, shared.first.len()), ("postgres", 3));
    assert_eq!(shared.first[0].sql.expose(), "REASSIGN OWNED BY \"g\" TO \"cloud_admin\"");
    let inside = &plan.stages[1];
    assert_eq!(inside[0].first[0].sql.expose(), "REASSIGN OWNED BY \"g\" TO \"ann\"");
    assert_eq!((inside[0].first.len(), inside[1].first.len()), (3, 0));
    assert!(plan.remarks.iter().any(|remark| remark.contains("\"c\"")), "{:?}", plan.remarks);

    // No dependency: the role is just dropped.
    state.dependencies.clear();
    assert_eq!(sql(&spec, &state), ["DROP ROLE IF EXISTS \"g\""]);
}

#[test]
fn what_a_role_holds_is_cleaned_up_once_and_under_its_new_name() {
    let mut state = cluster(&[("g", None)], &[("a", "boss")]);
    state.dependencies = vec![Dependency { role: "g".to_owned(), database: Some("a".to_owned()) }];
    let cleaned = |name: &str, first: Value| {
        let delete = json!({"action": "delete_role", "name": name});
        let spec = spec(json!({
            "databases": [{"name": "a", "owner": "boss"}],
            "delta_operations": [first, delete, delete]
        }));
        let all = sql(&spec, &state).into_iter();
        all.filter(|sql| sql.starts_with("REASSIGN")).collect::<Vec<_>>()
    };
    let nothing = json!({"action": "delete_role", "name": "nobody"});
    assert_eq!(cleaned("g", nothing), ["REASSIGN OWNED BY \"g\" TO \"boss\""]);
    let rename = json!({"action": "rename_role", "name": "g", "new_name": "h"});
    assert_eq!(cleaned("h", rename), ["REASSIGN OWNED BY \"h\" TO \"boss\""]);
}

/// The tests of `passwords` check the text of each remark.
#[test]
fn texts_that_are_not_verifiers_cause_a_remark_each_time() {
    let of_md5x = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$\
        0jwPdMvskaabx/SP5aJWGylGNdjuDhwxy1caJkEVaOI=:JH1TZ4WbwZhPaVn4X3L/mHM/PQEVF3vhaYuKq8cUOYk=";
    for (password, stored, first) in [
        (MD5, Some(format!("md5{MD5}")), 0),
        (SCRAM, Some(SCRAM.to_owned()), 0),
        ("", None, 1),
        ("x", Some(of_md5x.to_owned()), 1),
    ] {
        let spec = spec(json!({"roles": [{"name": "r", "encrypted_password": password}]}));
        let new = planned(&spec, &cluster(&[], &[]));
        assert_eq!((new.operations().count(), new.remarks.len()), (1, first), "{password}");
        assert!(new.remarks.iter().all(|remark| remark.contains("role \"r\"")));
        let again = planned(&spec, &cluster(&[("r", stored.as_deref())], &[]));
        assert_eq!((again.operations().count(), again.remarks.len()), (0, first), "{password}");
    }
}

#[test]
fn an_empty_password_takes_the_old_one_away() {
    let spec = spec(json!({"roles": [{"name": "r", "encrypted_password": ""}]}));
    let altered = ["ALTER ROLE \"r\"  LOGIN PASSWORD NULL"];
    assert_eq!(sql(&spec, &cluster(&[("r", Some(SCRAM))], &[])), altered);
}
