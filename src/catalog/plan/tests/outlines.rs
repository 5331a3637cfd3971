//! Databases that are not opened because nothing is to be done in them, and those that are.

use super::*;

/// The outline of a database that an earlier apply has changed.
fn settled() -> Option<Outline> {
    Some(Outline { defaults: 2, ..Outline::default() })
}

/// Two databases of `ann` that need no changes.
fn two() -> ClusterState {
    let mut state = cluster(&[("ann", None), ("bob", None)], &[("a", "ann"), ("b", "ann")]);
    for name in ["a", "b"] {
        state.databases.get_mut(name).unwrap().outline = settled();
    }
    state
}

fn spec_of_two(delta_operations: Value) -> ComputeSpec {
    spec(json!({
        "databases": [{"name": "a", "owner": "ann"}, {"name": "b", "owner": "ann"}],
        "delta_operations": delta_operations
    }))
}

/// Databases that get a session of their own, sorted.
fn opened(spec: &ComputeSpec, state: &ClusterState) -> Vec<String> {
    let plan = planned(spec, state);
    let chains = plan.stages.iter().flatten().filter(|chain| &*chain.database != "postgres");
    assert!(chains.clone().all(|chain| chain.look.is_some()), "each chain has a look");
    let mut names: Vec<String> = chains.map(|chain| chain.database.to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn nothing_to_do_nothing_opened() {
    let plan = planned(&spec_of_two(json!([])), &two());
    assert!(plan.stages.is_empty(), "{:?}", plan.stages);
    assert_eq!(plan.unchanged.len(), 3);
    assert!(plan.remarks.is_empty(), "{:?}", plan.remarks);
}

#[test]
fn what_is_known_goes_with_the_database() {
    let rename = json!([{"action": "rename_db", "name": "old", "new_name": "b"}]);
    let mut state = two();
    let old = state.databases.remove("b").unwrap();
    state.databases.insert("old".to_owned(), old);
    assert!(opened(&spec_of_two(rename.clone()), &state).is_empty());
    state.databases.get_mut("old").unwrap().outline = None;
    assert_eq!(opened(&spec_of_two(rename), &state), ["b"]);
}

#[test]
fn what_is_made_anew_is_not_what_it_was() {
    let delete = json!([{"action": "delete_db", "name": "a"}]);
    assert_eq!(opened(&spec_of_two(delete), &two()), ["a"]);
    let mut state = two();
    state.databases.get_mut("b").unwrap().invalid = true;
    assert_eq!(opened(&spec_of_two(json!([])), &state), ["b"]);
    state.databases.remove("b");
    assert_eq!(opened(&spec_of_two(json!([])), &state), ["b"]);
}

#[test]
fn another_owner_is_a_reason_to_look() {
    let mut state = two();
    state.databases.get_mut("a").unwrap().owner = Some("bob".to_owned());
    assert_eq!(opened(&spec_of_two(json!([])), &state), ["a"]);
}

#[test]
fn names_that_change_are_a_reason_to_look() {
    let rename = json!([{"action": "rename_role", "name": "bob", "new_name": "zenith_admin"}]);
    assert_eq!(opened(&spec_of_two(rename), &two()), ["a", "b"]);
    let mut state = two();
    state.roles.insert("web_access".to_owned(), StoredPassword::Known(None));
    assert_eq!(opened(&spec_of_two(json!([])), &state), ["a", "b"]);
    let listed = spec(json!({
        "roles": [{"name": "web_access"}], "databases": [{"name": "a", "owner": "ann"}]}));
    assert_eq!(opened(&listed, &two()), ["a"]);
}

#[test]
fn other_work_takes_a_session_anyway() {
    let mut state = two();
    let holds = |role: &str, database: &str| Dependency {
        role: role.to_owned(),
        database: Some(database.to_owned()),
    };
    state.dependencies = vec![holds("bob", "b"), holds("ann", "a")];
    let delete = json!([{"action": "delete_role", "name": "bob"}]);
    assert_eq!(opened(&spec_of_two(delete), &state), ["b"]);
    // Objects of the owner of a listed database do not prevent the deletion, and cause no remark.
    let delete = spec_of_two(json!([{"action": "delete_role", "name": "ann"}]));
    assert!(opened(&delete, &state).is_empty());
    assert!(planned(&delete, &state).remarks.is_empty());

    state.subscriptions = vec![SubscriptionRow { oid: 100, database: "a".to_owned() }];
    let drop = spec(json!({
        "drop_subscriptions_before_start": true,
        "databases": [{"name": "a", "owner": "ann"}, {"name": "b", "owner": "ann"}]}));
    assert_eq!(opened(&drop, &state), ["a"]);
}

#[test]
fn what_is_not_opened_is_told() {
    let of_two = spec_of_two(json!([]));
    let spared: Vec<_> =
        planned(&of_two, &two()).spared.into_iter().map(|it| it.database.to_string()).collect();
    assert_eq!(spared, ["a", "b"]);
    let wanted =
        Wanted { spec: &of_two, timeline: "ab", privileged_role: "boss", look_everywhere: true };
    let plan = plan_cluster(&wanted, two()).unwrap();
    assert_eq!(plan.spared, []);
    let looks = plan.stages.iter().flatten().filter(|chain| chain.look.is_some()).count();
    assert_eq!(looks, 2);
}

#[test]
fn the_system_database_is_open_anyway() {
    let mut state = two();
    state.databases.get_mut("postgres").unwrap().outline = settled();
    let listed = spec(json!({"databases": [{"name": "postgres", "owner": "cloud_admin"}]}));
    let plan = planned(&listed, &state);
    assert!(plan.stages[0][0].look.is_some(), "{:?}", plan.stages);
}

#[test]
fn only_specs_with_databases_ask_for_outlines() {
    let asks = |spec: &ComputeSpec| {
        let wanted =
            Wanted { spec, timeline: "ab", privileged_role: "boss", look_everywhere: false };
        wanted.questions().privileged_role.map(str::to_owned)
    };
    assert_eq!(asks(&spec(json!({}))), None);
    assert_eq!(asks(&spec_of_two(json!([]))).as_deref(), Some("boss"));
}
