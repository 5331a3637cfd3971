use super::*;
use crate::spec::wire::{ConfigDocument, ConfigureRequest};
use serde_json::{Value, json};

/// Example E2 of document 02, cut to what the shape tests need.
fn full() -> Value {
    json!({
        "spec": {
            "format_version": 1.0,
            "timestamp": "2031-03-04T05:06:07.890Z",
            "suspend_timeout_seconds": 300,
            "features": ["tls_experimental", "feature_from_the_future"],
            "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e",
            "timeline_id": "a451a43e3c4f981f67181c3e278d7363",
            "pageserver_connection_info": {
                "shard_count": 0, "stripe_size": null, "prefer_protocol": "libpq",
                "shards": {"0000": {"pageservers": [{"id": 41, "libpq_url": "postgresql://no_user@ps:6400"}]}}
            },
            "safekeeper_connstrings": ["sk-1:6500"],
            "mode": "Primary",
            "pgbouncer_settings": {"pool_mode": "transaction"},
            "audit_log_level": "Base",
            "offload_lfc_interval_seconds": 300,
            "delta_operations": [{"action": "delete_db", "name": "old"}],
            "cluster": {
                "roles": [{"name": "ann", "encrypted_password": null, "options": null}],
                "databases": [{"name": "store", "owner": "ann", "restrict_conn": [1]}],
                "settings": [{"name": "max_connections", "value": "112", "vartype": "integer"}]
            }
        },
        "compute_ctl_config": {"jwks": {"keys": [
            {"use": "sig", "key_ops": ["verify"], "alg": "EdDSA", "kid": "k", "kty": "OKP",
             "crv": "Ed25519", "x": "SvNEwrXCy0Gy7sCfcCoCa4XUhX4ay9rmGB1p_dT3_xU"}
        ]}, "tls": null}
    })
}

fn config(value: &Value) -> Result<Parsed<ConfigDocument>, DocumentError> {
    parse(value.to_string().as_bytes())
}

#[test]
fn the_full_document_has_no_unknown_member() {
    let parsed = config(&full()).unwrap();
    assert_eq!(parsed.unknown_members, Vec::<String>::new());
    assert!(parsed.value.spec.unwrap().has_feature(crate::spec::wire::Feature::TlsExperimental));
}

#[test]
fn the_smallest_document_is_an_empty_compute() {
    let parsed = config(&json!({"compute_ctl_config": {"jwks": {"keys": []}}})).unwrap();
    assert!(parsed.value.spec.is_none());
}

#[test]
fn every_required_member_is_named_with_its_path() {
    for pointer in [
        "/compute_ctl_config",
        "/compute_ctl_config/jwks",
        "/compute_ctl_config/jwks/keys",
        "/spec/format_version",
        "/spec/cluster",
        "/spec/suspend_timeout_seconds",
        "/spec/cluster/roles",
        "/spec/cluster/databases",
        "/spec/cluster/roles/0/name",
        "/spec/cluster/databases/0/name",
        "/spec/cluster/databases/0/owner",
        "/spec/cluster/settings/0/name",
        "/spec/cluster/settings/0/vartype",
        "/spec/delta_operations/0/action",
        "/spec/delta_operations/0/name",
        "/spec/pageserver_connection_info/shard_count",
        "/spec/pageserver_connection_info/shards",
        "/spec/pageserver_connection_info/shards/0000/pageservers",
    ] {
        let mut value = full();
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member).unwrap();
        let error = config(&value).unwrap_err();
        assert!(!error.is_syntax());
        let text = error.to_string();
        assert!(text.contains(&format!("missing field `{member}`")), "{pointer}: {text}");
        if let Some(path) = parent.strip_prefix('/') {
            let path = path.replace("/0", "[0]").replace('/', ".").replace("[0]000", ".0000");
            assert!(text.starts_with(&path), "{pointer}: {text}");
        }
    }
}

#[test]
fn unknown_members_are_accepted_at_every_level_and_listed() {
    for pointer in [
        "",
        "/spec",
        "/compute_ctl_config",
        "/compute_ctl_config/jwks",
        "/spec/cluster",
        "/spec/cluster/roles/0",
        "/spec/cluster/databases/0",
        "/spec/cluster/settings/0",
        "/spec/delta_operations/0",
        "/spec/pageserver_connection_info",
        "/spec/pageserver_connection_info/shards/0000",
        "/spec/pageserver_connection_info/shards/0000/pageservers/0",
    ] {
        let mut value = full();
        let object = value.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        object.insert("x_new".to_owned(), json!({"a": [1]}));
        let unknown = config(&value).unwrap().unknown_members;
        assert_eq!(unknown.len(), 1, "{pointer}: {unknown:?}");
        assert!(unknown[0].ends_with("x_new"), "{unknown:?}");
    }
}

/// With any value in any member: an error may name the member, never the value.
#[test]
fn errors_do_not_repeat_values() {
    fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match value {
            Value::Object(members) => members
                .iter()
                .for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), all)),
            Value::Array(values) => (0..)
                .zip(values)
                .for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), all)),
            _ => {}
        }
    }
    let mut document = full();
    let more = json!({
        "storage_auth_token": "t", "endpoint_storage_token": "t", "operation_uuid": "u",
        "autoprewarm": true, "logs_export_host": "h:1", "shard_stripe_size": 8
    });
    let spec = document["spec"].as_object_mut().unwrap();
    spec.extend(more.as_object().unwrap().clone());
    let mut all = Vec::new();
    pointers(&document, "", &mut all);
    let mut refused = 0;
    for planted in [
        json!("PLANTED"),
        json!(["PLANTED"]),
        json!({"a": "PLANTED"}),
        json!(735_173_517_351_u64),
        json!(-73_517_351.5),
    ] {
        for pointer in &all {
            // Errors may show the names of choices.
            let choice = ["mode", "audit_log_level", "action", "features", "prefer_protocol"];
            let choice = choice.iter().any(|name| pointer.contains(name));
            if pointer.contains("jwks/keys") || (choice && planted.is_string()) {
                continue;
            }
            let mut value = document.clone();
            *value.pointer_mut(pointer).unwrap() = planted.clone();
            let Err(error) = config(&value) else { continue };
            refused += 1;
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("PLANTED"), "{pointer}: {text}");
                assert!(!text.contains("735173"), "{pointer}: {text}");
            }
        }
    }
    assert!(refused > 100, "{refused}");
    let mut value = full();
    value["spec"]["pgbouncer_settings"] = json!("PLANTED");
    let text = config(&value).unwrap_err().to_string();
    let expected = "spec.pgbouncer_settings: invalid type: string, expected a map at line";
    assert!(text.starts_with(expected), "{text}");
}

/// A client cannot choose their number or their length.
#[test]
fn unknown_members_have_a_limit() {
    let long = "x".repeat(10 * LONGEST);
    let members = (0..2 * MOST_UNKNOWN).map(|n| (format!("{n}\r{long}"), json!(1)));
    let text = Value::Object(members.collect()).to_string();
    #[derive(Debug, serde::Deserialize)]
    struct Nothing {}
    let unknown = parse::<Nothing>(text.as_bytes()).unwrap().unknown_members;
    assert_eq!(unknown.len(), MOST_UNKNOWN);
    assert!(unknown.iter().all(|name| name.len() < LONGEST + 30 && name.contains("\\r")));
}

#[test]
fn null_policy() {
    for (member, accepted) in [
        ("features", false),
        ("skip_pg_catalog_updates", false),
        ("safekeeper_connstrings", false),
        ("mode", false),
        ("reconfigure_concurrency", false),
        ("drop_subscriptions_before_start", false),
        ("audit_log_level", false),
        ("autoprewarm", false),
        ("pgbouncer_settings", true),
        ("tenant_id", true),
        ("offload_lfc_interval_seconds", true),
    ] {
        let mut value = full();
        value["spec"][member] = Value::Null;
        assert_eq!(config(&value).is_ok(), accepted, "{member}");
    }
}

#[test]
fn enumerations_are_exact() {
    let cases = [
        ("mode", json!("Primary"), true),
        ("mode", json!("Replica"), true),
        ("mode", json!({"Static": "0/1"}), true),
        ("mode", json!("primary"), false),
        ("mode", json!("Static"), false),
        ("mode", json!({"Static": 1}), false),
        ("audit_log_level", json!("Disabled"), true),
        ("audit_log_level", json!("Log"), true),
        ("audit_log_level", json!("Hipaa"), true),
        ("audit_log_level", json!("Extended"), true),
        ("audit_log_level", json!("Full"), true),
        ("audit_log_level", json!("base"), false),
        ("offload_lfc_interval_seconds", json!(0), false),
        ("tenant_id", json!("88DFEFDB53D20E1B4BB1FEAE80E8020E"), true),
        ("tenant_id", json!("88dfefdb53d20e1b4bb1feae80e8020"), false),
        ("shard_stripe_size", json!("8"), false),
        ("format_version", json!(1), true),
    ];
    for (member, text, accepted) in cases {
        let mut value = full();
        value["spec"][member] = text.clone();
        let result = config(&value);
        assert_eq!(result.is_ok(), accepted, "{member} = {text}: {result:?}");
        if let Err(error) = result {
            assert!(error.to_string().contains(&format!("spec.{member}")), "{error}");
        }
    }
}

#[test]
fn text_that_is_not_one_json_value() {
    for text in ["{", "", "{} {}", "{\"spec\" 1}", "\u{feff}{}"] {
        assert!(parse::<Value>(text.as_bytes()).unwrap_err().is_syntax(), "{text:?}");
    }
    assert!(parse::<Value>(b" \n{}\t ").is_ok());
    assert!(parse::<Value>(b"\"\xff\"").is_err());
}

#[test]
fn duplicate_members_are_refused() {
    let error =
        parse::<ConfigDocument>(br#"{"compute_ctl_config":{"jwks":{"keys":[],"keys":[]}}}"#)
            .unwrap_err();
    assert!(error.to_string().contains("duplicate field `keys`"), "{error}");
}

#[test]
fn a_configure_body_needs_a_spec() {
    let error =
        parse::<ConfigureRequest>(br#"{"compute_ctl_config":{"jwks":{"keys":[]}}}"#).unwrap_err();
    assert!(!error.is_syntax());
    assert!(error.to_string().contains("missing field `spec`"), "{error}");
}

#[test]
fn what_is_not_json_is_explained() {
    let good = full().to_string();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with = |start: &[u8], rest: &[u8]| [start, rest].concat();
    let text = |text: &str| text.as_bytes().to_vec();
    for (document, hint) in [
        (with(b"\xef\xbb\xbf", good.as_bytes()), "a byte order mark"),
        (with(b"\xff\xfe", &utf16), "it is UTF-16"),
        (utf16.clone(), "it is UTF-16"),
        (with(b"{\"spec\": \"a\0b\",", b"}"), "a NUL byte"),
        (with(good.as_bytes(), b"\0"), "a NUL byte"),
        (with(b"{\"spec\": \"\xe9\"", b"}"), "it is not UTF-8"),
        (text(" \n "), "the document is empty"),
        (text("// note\n{}"), "no comments"),
        (text("{\n  \"x\": 1, // note\n \"x\": 2}"), "no comments"),
        (text("{\n  /* note */ \"spec\": null}"), "no comments"),
        (text("# note\n{}"), "no comments"),
        (text("{\"spec\": null,\n}"), "a comma before the closing bracket"),
        (text("{\"compute_ctl_config\": {\"jwks\": {\"keys\": [ ,]}}}"), ""),
        (text("{\"compute_ctl_config\": {\"jwks\": {\"keys\": []},}}"), "a comma before the"),
        (text("{\"spec\": {\"features\": [\"a\", ]}}"), "a comma before the closing bracket"),
        (text("{'spec': null}"), "in double quotes"),
        (text("{\"spec\": {\"features\": ['planted']}}"), "in double quotes"),
    ] {
        let error = parse::<ConfigDocument>(&document).unwrap_err();
        assert!(error.is_syntax(), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(" at line ") && shown.contains(hint), "{hint}: {shown}");
        assert!(!shown.contains('?') && !shown.contains("planted"), "{shown}");
        assert!(std::error::Error::source(&error).is_none());
    }
}

#[test]
fn typing_errors_and_other_kinds_of_document() {
    let mut value = full();
    let spec = value["spec"].as_object_mut().unwrap();
    let cluster = spec.remove("cluster").unwrap();
    spec.insert("clutser".to_owned(), cluster);
    spec.insert("x_new".to_owned(), json!(1));
    let error = config(&value).unwrap_err().to_string();
    assert!(error.starts_with("spec: missing field `cluster` at line 1"), "{error}");
    assert!(error.ends_with("; `clutser` is not known, did you mean `cluster`?"), "{error}");

    let error = config(&full()["spec"]).unwrap_err().to_string();
    assert!(error.starts_with("missing field `compute_ctl_config`"), "{error}");
    assert!(error.contains("this looks like a bare spec") && error.contains("--spec"), "{error}");
    let text = full().to_string();
    let error = parse::<crate::spec::ComputeSpec>(text.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("missing field `format_version`"), "{error}");
    assert!(error.contains("looks like a whole configuration"), "{error}");
}
