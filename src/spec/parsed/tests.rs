use super::*;
use serde_json::{Value, json};

fn base() -> Value {
    json!({
        "format_version": 1.0,
        "suspend_timeout_seconds": -1,
        "cluster": {"roles": [], "databases": []},
        "tenant_id": "f9ddaa608f8785cbabc1fd5fd652b865",
        "timeline_id": "0d5fa912d882faf89d456adb9d001240",
        "pageserver_connstring": "postgres://no_user@127.0.0.1:6400",
        "safekeeper_connstrings": ["a:1"]
    })
}

fn parse(value: &Value) -> Result<ParsedSpec, SpecError> {
    serde_json::from_value::<ComputeSpec>(value.clone()).unwrap().try_into()
}

fn setting(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value, "vartype": "string"})
}

/// Document 02 §14.9 and the tables of 02 §7.1.
#[test]
fn refusals_have_the_documented_texts() {
    let cases = [
        (
            "pageserver_connstring",
            Value::Null,
            "pageserver connection information should be provided",
        ),
        ("pageserver_connstring", json!("host=u1,host=u2"), "2 shards but no stripe_size"),
        ("safekeeper_connstrings", json!([]), "safekeeper connstrings should be provided"),
        ("tenant_id", Value::Null, "tenant id should be provided"),
        ("timeline_id", Value::Null, "timeline id should be provided"),
        (
            "safekeeper_connstrings",
            json!(["a:1", "b:1", "a:1"]),
            "duplicate entry in safekeeper_connstrings: a:1!",
        ),
        (
            "safekeeper_connstrings",
            json!(["b:1", "a:1", "b:1", "a:1"]),
            "duplicate entry in safekeeper_connstrings: a:1!",
        ),
        (
            "safekeeper_connstrings",
            json!([""]),
            "safekeeper address no. 1 is not of the form host:port: it is empty",
        ),
        (
            "safekeeper_connstrings",
            json!(["a:1", " a:1"]),
            "duplicate entry in safekeeper_connstrings: a:1!",
        ),
        (
            "safekeeper_connstrings",
            json!(["postgres://u:planted@a:1", "a:1", "postgres://u:planted@a:1"]),
            "duplicate entry in safekeeper_connstrings: no. 3!",
        ),
        (
            "logs_export_host",
            json!("nocolon"),
            "Invalid host format for Postgres logs export: it is not of the form host:port",
        ),
        (
            "pageserver_connection_info",
            json!({"shard_count": 0, "shards": {"0000": {"pageservers": []}}}),
            "shard 0000 in pageserver_connection_info must have at least one pageserver",
        ),
    ];
    for (member, value, text) in cases {
        let mut spec = base();
        spec[member] = value;
        assert_eq!(parse(&spec).unwrap_err().to_string(), text);
    }
}

#[test]
fn ids_in_settings_are_checked() {
    for (name, member, kind) in
        [("neon.tenant_id", "tenant_id", "tenant"), ("neon.timeline_id", "timeline_id", "timeline")]
    {
        let long = "planted".repeat(5);
        for (value, shown) in [
            ("TENANT_ID", "its value is \"TENANT_ID\""),
            ("${TENANT}", "its value is \"${TENANT}\""),
            ("", "its value is \"\""),
            ("postgres://u:planted@h", "its value has 22 characters"),
            (&long, "its value has 35 characters"),
        ] {
            let mut spec = base();
            spec[member] = Value::Null;
            spec["cluster"]["settings"] = json!([setting(name, value)]);
            let text = format!(
                "invalid {kind} id in spec.cluster.settings[{name}]: {shown}, 32 hexadecimal \
                 digits are needed"
            );
            assert_eq!(parse(&spec).unwrap_err().to_string(), text);
        }
    }
}

/// Example E5: the docker-compose form, ids and addresses only in settings.
#[test]
fn everything_can_come_from_settings() {
    let spec = json!({
        "format_version": 1.0,
        "suspend_timeout_seconds": 600,
        "cluster": {
            "roles": [],
            "databases": [],
            "settings": [
                {"name": "neon.tenant_id", "value": null, "vartype": "string"},
                setting("neon.timeline_id", "fb268001932eeb95b7ff235056309689"),
                setting("neon.pageserver_connstring", "host=127.0.0.1 port=6400"),
                setting("neon.safekeepers", "127.0.0.1:6501,127.0.0.1:6502,127.0.0.1:6503"),
                setting("neon.endpoint_storage_addr", "es:9993"),
                setting("neon.endpoint_storage_token", "tok")
            ]
        }
    });
    assert_eq!(parse(&spec).unwrap_err(), SpecError::NoTenant, "null counts as not given");

    let mut spec = spec;
    spec["cluster"]["settings"][0] = setting("neon.tenant_id", "8761780FE2FE258DA8FCB69E43B5E0D6");
    let parsed = parse(&spec).unwrap();
    assert_eq!(parsed.tenant_id.to_string(), "8761780fe2fe258da8fcb69e43b5e0d6");
    assert_eq!(parsed.safekeepers.len(), 3);
    assert_eq!(parsed.pageserver.shard_count, 0);
    assert_eq!(parsed.endpoint_storage_addr.as_deref(), Some("es:9993"));
    assert_eq!(parsed.endpoint_storage_token.unwrap().expose(), "tok");
}

/// 04 W11: the program uses the same entry as Postgres.
#[test]
fn of_several_settings_of_one_name_the_last_one_counts() {
    let mut spec = base();
    spec["timeline_id"] = Value::Null;
    spec["cluster"]["settings"] = json!([
        setting("neon.timeline_id", "00998877665544332211ffeeddccbbaa"),
        setting("Neon.Timeline_Id", "fb268001932eeb95b7ff235056309689"),
        setting("neon.timeline_id2", "xyz")
    ]);
    let timeline = parse(&spec).unwrap().timeline_id.to_string();
    assert_eq!(timeline, "fb268001932eeb95b7ff235056309689");
}

#[test]
fn a_generation_in_the_safekeeper_setting_is_not_part_of_the_first_address() {
    let mut spec = base();
    spec["safekeeper_connstrings"] = json!([]);
    spec["cluster"]["settings"] = json!([setting("neon.safekeepers", "g#7:sk-1:6500,sk-2:6500")]);
    assert_eq!(parse(&spec).unwrap().safekeepers, ["sk-1:6500", "sk-2:6500"]);
}

#[test]
fn read_only_computes_need_no_safekeepers() {
    for mode in [json!("Replica"), json!({"Static": "0/169AD58"})] {
        let mut spec = base();
        spec["mode"] = mode;
        spec["safekeeper_connstrings"] = json!([]);
        assert!(parse(&spec).unwrap().safekeepers.is_empty());
    }
}

#[test]
fn an_even_number_of_safekeepers_and_ipv6_are_fine() {
    let mut spec = base();
    spec["safekeeper_connstrings"] = json!(["sk-1.example:6500", "[::1]:6500"]);
    assert_eq!(parse(&spec).unwrap().safekeepers.len(), 2);
}

/// libpq understands some of them, and the full sync decides about the others.
#[test]
fn odd_safekeepers_are_accepted_and_numbered() {
    let mut spec = base();
    spec["safekeeper_connstrings"] = json!([
        "postgresql://postgres:@sk-1:5454",
        "sk-2:5454",
        " sk-3:5454",
        "sk-4",
        "::1:5454",
        "[::1]:5454",
        "sk-5:5454,sk-6:5454",
        "sk-7:0",
        "host=sk-8 port=1"
    ]);
    let parsed = parse(&spec).unwrap();
    assert_eq!(parsed.safekeepers, ["sk-2:5454", "[::1]:5454"]);
    assert_eq!(parsed.odd_safekeepers, [1, 3, 4, 5, 7, 8, 9]);

    spec["safekeeper_connstrings"] = json!([]);
    spec["cluster"]["settings"] = json!([setting("neon.safekeepers", "sk-1:1, sk-2:1,")]);
    assert_eq!(parse(&spec).unwrap().odd_safekeepers, [2, 3]);
    spec["cluster"]["settings"] = json!([setting("neon.safekeepers", " ")]);
    assert_eq!(parse(&spec).unwrap_err(), SpecError::BadSafekeeper(1));
}

#[test]
fn a_bad_stripe_size_setting_is_an_error() {
    let mut spec = base();
    spec["pageserver_connstring"] = Value::Null;
    spec["cluster"]["settings"] = json!([
        setting("neon.pageserver_connstring", "host=a,host=b"),
        setting("neon.stripe_size", "many")
    ]);
    assert_eq!(parse(&spec).unwrap_err(), SpecError::BadStripeSize);
}

/// A URL instead of an address may hold a password.
#[test]
fn credentials_do_not_show_in_refusals() {
    let url = "postgres://u:PLANTED@sk-1:6500/";
    let addresses = [url, "PLANTED@sk:1", "sk:1@PLANTED", "host=sk password=PLANTED"];
    for address in addresses {
        for (member, value) in [
            ("safekeeper_connstrings", json!([address])),
            ("safekeeper_connstrings", json!([address, address])),
            ("safekeeper_connstrings", json!(["a:1", "a:1", address])),
            ("logs_export_host", json!(address)),
            ("pageserver_connstring", json!(format!("{address} port=x"))),
            (
                "pageserver_connection_info",
                json!({"shard_count": 0, "prefer_protocol": "grpc", "shards": {
                    "0000": {"pageservers": [{"grpc_url": address}]}
                }}),
            ),
        ] {
            let mut spec = base();
            spec[member] = value.clone();
            let Err(error) = parse(&spec) else { continue };
            let text = format!("{error} {error:?}");
            assert!(!text.contains("PLANTED"), "{member} = {value}: {text}");
        }
    }
}

#[test]
fn tokens_are_one_word() {
    let mut spec = base();
    spec["storage_auth_token"] = json!("tok\n");
    spec["endpoint_storage_token"] = json!("tok2\r\n");
    let parsed = parse(&spec).unwrap();
    assert_eq!(parsed.storage_token().unwrap().expose(), "tok");
    assert_eq!(parsed.endpoint_storage_token.unwrap().expose(), "tok2");
    for member in ["storage_auth_token", "endpoint_storage_token"] {
        let mut spec = base();
        spec[member] = json!("planted\nplanted");
        let error = parse(&spec).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{member} has a line break inside: correct its value")
        );
    }
    let mut spec = base();
    spec["cluster"]["settings"] = json!([setting("neon.endpoint_storage_token", "a\nb")]);
    let error = parse(&spec).unwrap_err().to_string();
    assert!(error.starts_with("neon.endpoint_storage_token has a line break"), "{error}");
}

#[test]
fn secrets_do_not_show_in_debug_dumps() {
    let mut spec = base();
    spec["storage_auth_token"] = json!("planted-token");
    spec["pageserver_connstring"] = json!("postgres://u:planted-password@h");
    spec["cluster"]["roles"] = json!([{"name": "r", "encrypted_password": "planted-hash"}]);
    assert!(!format!("{:?}", parse(&spec).unwrap()).contains("planted"));
}
