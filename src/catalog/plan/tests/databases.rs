//! Phases 1, 3, 6, 7, 9 and 14.

use super::*;

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
    // Its privileges were changed, or initdb made it: no creation was interrupted.
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
    assert_eq!(inside[0].look.as_ref().unwrap().before.as_deref(), Some("a"));
}

fn rename(old: &str, new: &str) -> Value {
    json!({"action": "rename_db", "name": old, "new_name": new})
}

fn delete(name: &str) -> Value {
    json!({"action": "delete_db", "name": name})
}

/// Plans for databases of these names, all with the owner that the spec wants.
fn with_deltas(
    listed: &[&str],
    there: &[&str],
    deltas: &Value,
) -> Result<(Vec<String>, Vec<String>), PlanError> {
    let listed: Vec<_> = listed.iter().map(|n| json!({"name": n, "owner": "boss"})).collect();
    let there: Vec<_> = there.iter().map(|name| (*name, "boss")).collect();
    let spec = spec(json!({"databases": listed, "delta_operations": deltas}));
    let wanted =
        Wanted { spec: &spec, timeline: "ab", privileged_role: "boss", look_everywhere: false };
    plan_cluster(&wanted, cluster(&[], &there)).map(|plan| {
        let writes = plan.operations().filter(|op| op.action != Action::EndSessions);
        (writes.map(ToString::to_string).collect(), plan.remarks)
    })
}

/// 05 §7.6. A rename that an earlier run of the same list has done is not refused (05 §6).
#[test]
fn a_rename_onto_a_name_that_is_taken() {
    let a_to_b = json!([rename("a", "b")]);
    let error = with_deltas(&[], &["a", "b"], &a_to_b).unwrap_err().to_string();
    for part in ["rename database \"a\" to \"b\"", "there is a database of that name", "Rename"] {
        assert!(error.contains(part), "{error}");
    }
    // Deleting it would delete the renamed database when the list is applied again.
    assert!(!error.to_lowercase().contains("delete"), "{error}");
    // Too late in the list.
    assert!(with_deltas(&[], &["a", "b"], &json!([rename("a", "b"), delete("b")])).is_err());
    let late = json!([rename("a", "b"), rename("b", "c")]);
    assert!(with_deltas(&[], &["a", "b"], &late).is_err());

    let nothing = Ok((Vec::new(), Vec::new()));
    // Done before.
    assert_eq!(with_deltas(&["b"], &["b"], &a_to_b), nothing);
    assert_eq!(with_deltas(&[], &["a"], &json!([rename("a", "a")])), nothing);
    // The old name was taken again after the rename: because the spec lists it, or by a user.
    for listed in [&["a", "b"][..], &["a"], &["b"]] {
        let (writes, remarks) = with_deltas(listed, &["a", "b"], &a_to_b).unwrap();
        assert!(!writes.iter().any(|write| write.contains("rename")), "{writes:?}");
        assert!(remarks[0].contains("\"a\" is not renamed to \"b\""), "{remarks:?}");
        assert!(remarks[0].ends_with(&format!("the spec lists {:?}", listed[0])), "{remarks:?}");
        assert_eq!(remarks.len(), 1);
    }
}

#[test]
fn a_chain_of_renames_that_is_applied_again() {
    let chain = json!([rename("c", "d"), rename("b", "c"), rename("a", "b")]);
    let renames = ["c", "b", "a"].map(|name| format!("rename database {name:?}")).to_vec();
    for listed in [&[][..], &["b", "c", "d"]] {
        // Each name is free when it is needed; and again, after that.
        assert_eq!(with_deltas(listed, &["a", "b", "c"], &chain), Ok((renames.clone(), vec![])));
        assert_eq!(with_deltas(listed, &["b", "c", "d"], &chain), Ok((vec![], vec![])));
    }
}

/// By now, another database has the name of the deleted one.
#[test]
fn a_list_that_deletes_and_renames_is_applied_again() {
    let list = json!([delete("b"), rename("a", "b")]);
    let done = ["drop database \"b\"", "rename database \"a\""].map(str::to_owned).to_vec();
    for listed in [&[][..], &["b"]] {
        assert_eq!(with_deltas(listed, &["a", "b"], &list), Ok((done.clone(), vec![])));
        // Interrupted in between.
        assert_eq!(with_deltas(listed, &["a"], &list), Ok((done[1..].to_vec(), vec![])));
        let (writes, remarks) = with_deltas(listed, &["b"], &list).unwrap();
        assert!(writes.is_empty(), "{writes:?}");
        assert!(
            matches!(&remarks[..], [one] if one.contains("\"b\" is not deleted")),
            "{remarks:?}"
        );
    }
    // Its subscriptions stay as well.
    let spec = spec(json!({"delta_operations": list}));
    assert!(planned(&spec, &with_subscriptions(&["b"])).stages.is_empty());
    assert_eq!(phases(&planned(&spec, &with_subscriptions(&["a", "b"])))[0], CatalogStep::PreDrop);
}

#[test]
fn a_copy_of_a_listed_database_comes_after_it() {
    let template = json!([{"name": "TEMPLATE", "value": "base", "vartype": "enum"}]);
    let spec = spec(json!({"databases": [
        {"name": "copy", "owner": "boss", "options": template},
        {"name": "base", "owner": "boss"}
    ]}));
    let plan = planned(&spec, &cluster(&[], &[]));
    let creations = plan.stages.iter().enumerate().flat_map(|(at, stage)| {
        let creations = stage.iter().flat_map(|chain| &chain.first).filter(|op| op.alone);
        creations.map(move |op| (op.object.name.as_str(), at))
    });
    let mut stages: Vec<_> = creations.collect();
    stages.sort_by_key(|(_, at)| *at);
    assert!(matches!(stages[..], [("base", a), ("copy", b)] if a < b), "{stages:?}");
}

#[test]
fn what_interrupted_drops_left_goes_first() {
    let spec = spec(json!({"databases": [{"name": "listed", "owner": "boss"}]}));
    let mut state = cluster(&[], &[("listed", "boss"), ("other", "boss")]);
    for name in ["listed", "other"] {
        state.databases.get_mut(name).unwrap().invalid = true;
    }
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [CatalogStep::InvalidDatabases, CatalogStep::Databases]);
    assert_eq!(plan.stages[0].len(), 2, "both at the same time");
    assert_eq!(plan.stages[2][0].look.as_ref().unwrap().owner, "boss");
}

#[test]
fn nothing_is_done_inside_a_database_without_connections() {
    let spec = spec(json!({"databases": [{"name": "d", "owner": "boss"}]}));
    let mut state = cluster(&[], &[("d", "ann")]);
    state.databases.get_mut("d").unwrap().restricted = true;
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [CatalogStep::Databases]);
    assert_eq!((plan.stages.len(), plan.remarks.len()), (1, 1));
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
    let (remember, inside, record) = (
        CatalogStep::RememberSubscriptions,
        CatalogStep::InsideDatabases,
        CatalogStep::RecordSubscriptions,
    );
    assert_eq!(phases(&plan), [remember, inside, record]);
    let written = plan.operations().nth(1).unwrap().sql.expose();
    assert!(written.ends_with("VALUES ('ab', '{100,101}'); END $record$"), "{written}");
    let drops: Vec<_> =
        plan.operations().filter(|op| op.action == Action::DropSubscriptions).collect();
    assert_eq!(drops.len(), 2);
    assert!(drops[0].sql.expose().contains("ARRAY[100]::pg_catalog.oid[]"));
    assert_eq!(&*drops[1].database, "unlisted");

    // Interrupted: only the listed subscriptions are dropped, although there are others now.
    state.subscriptions_todo = Some(vec![101]);
    let plan = planned(&spec, &state);
    assert_eq!(phases(&plan), [inside, record]);
    let drops = plan.operations().filter(|op| op.action == Action::DropSubscriptions);
    assert_eq!(drops.map(|op| &*op.database).collect::<Vec<_>>(), ["unlisted"]);

    // A database does not accept connections: no mark, and the others are not dropped again.
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
    assert_eq!(phases(&plan), [CatalogStep::PreDrop, CatalogStep::RemoveDatabases]);
    assert_eq!(&*plan.stages[0][0].database, "d");
}

/// Databases in which subscriptions are dropped, in order.
fn drops(spec: &ComputeSpec, state: &ClusterState) -> Vec<String> {
    let plan = planned(spec, state);
    let drops = plan.operations().filter(|op| op.action == Action::DropSubscriptions);
    drops.map(|op| op.database.to_string()).collect()
}

#[test]
fn subscriptions_go_with_their_database_and_no_others() {
    let inherited = |deltas: Value| {
        spec(json!({"drop_subscriptions_before_start": true, "delta_operations": deltas}))
    };
    let mut state = with_subscriptions(&["a", "b"]);
    assert_eq!(drops(&inherited(json!([delete("a")])), &state), ["a", "b"]);
    assert_eq!(drops(&inherited(json!([rename("a", "z")])), &state), ["b", "z"]);
    // An interrupted drop left it, and no session can enter it.
    state.databases.get_mut("a").unwrap().invalid = true;
    assert_eq!(drops(&inherited(json!([])), &state), ["b"]);
}

#[test]
fn what_a_role_holds_goes_with_the_database_and_stays_in_others() {
    let held =
        |database: &str| Dependency { role: "g".to_owned(), database: Some(database.to_owned()) };
    let mut state = cluster(&[("g", None)], &[("a", "boss"), ("b", "boss")]);
    state.dependencies = vec![held("a"), held("b")];
    let cleaned = |first: Value| {
        let listed = ["a", "b", "z"].map(|name| json!({"name": name, "owner": "boss"}));
        let deleted = first["action"] == "delete_db";
        let spec = spec(json!({
            "databases": if deleted { &listed[1..2] } else { &listed[1..] },
            "delta_operations": [first, {"action": "delete_role", "name": "g"}]
        }));
        let plan = planned(&spec, &state);
        let own = plan.operations().filter(|op| op.sql.expose().starts_with("REASSIGN"));
        own.map(|op| op.database.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(cleaned(delete("a")), ["b"]);
    assert_eq!(cleaned(rename("a", "z")), ["b", "z"]);
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

/// A spec cannot name them, so nothing is done about them; one remark names them.
#[test]
fn names_that_are_not_utf8_are_left_alone() {
    let odd = |text: &str| format!("{text}\u{fffd}\0{}", "ff".repeat(text.len()));
    let owner = odd("jos");
    let mut state = cluster(&[("ann", None), (&owner, None)], &[("shop", &owner)]);
    let invalid = DatabaseRow { invalid: true, owner: None, ..DatabaseRow::default() };
    state.databases.insert(odd("caf"), invalid);
    let spec = spec(json!({
        "roles": [{"name": "ann"}, {"name": "jos\u{fffd}"}],
        "databases": [{"name": "shop", "owner": "ann"}]
    }));
    let plan = planned(&spec, &state);
    let remark = "left alone, because their names are not UTF-8: roles [\"jos\u{fffd}\"], \
                  databases [\"caf\u{fffd}\"]";
    assert_eq!(plan.remarks, [remark]);
    let done: Vec<String> = plan.operations().map(|it| format!("{it} ({})", it.reason)).collect();
    assert!(done.iter().any(|it| it.contains("its owner is \"jos\u{fffd}\"")), "{done:?}");
    assert!(done.iter().any(|it| it.contains("create role \"jos\u{fffd}\"")), "{done:?}");
    assert!(plan.operations().all(|it| !it.sql.expose().contains('\0')), "{done:?}");
    assert!(!done.iter().any(|it| it.contains("caf")), "{done:?}");

    let many = (0..13).map(|at| odd(&format!("r{at:02}")));
    state.roles.extend(many.map(|name| (name, StoredPassword::Known(None))));
    let remarks = planned(&spec, &state).remarks.concat();
    assert!(remarks.contains("\"r08\u{fffd}\"] and 4 more, databases"), "{remarks}");
}
