//! Tests of the lines and their order.

use super::*;
use crate::postgres::conf::{Line, SUBSCRIBERS_ON_LINE};
use serde_json::{Value as Json, json};

const INPUTS: ConfInputs<'_> = ConfInputs {
    privileged_role_name: "neon_superuser",
    internal_http_port: 3081,
    overcommit_strict: false,
    tls: false,
    lakebase_port: None,
};

fn base() -> Json {
    json!({
        "format_version": 1.0,
        "suspend_timeout_seconds": -1,
        "cluster": {"roles": [], "databases": []}
    })
}

fn with(members: Json) -> Json {
    let mut spec = base();
    for (name, value) in members.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}

fn build(spec: Json) -> Result<ConfFile, ConfError> {
    ConfFile::build(&serde_json::from_value(spec).unwrap(), &INPUTS)
}

/// Meaningful lines only, as the normaliser of 04 §15 does.
fn normal(spec: Json) -> Vec<String> {
    let text = build(spec).unwrap().render().unwrap().expose().clone();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn value_of(lines: &[String], name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    lines.iter().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

#[test]
fn the_smallest_spec() {
    let spec = base();
    let expected = [
        "lc_messages='C.UTF-8'",
        "lc_monetary='C.UTF-8'",
        "lc_time='C.UTF-8'",
        "lc_numeric='C.UTF-8'",
        "neon.compute_mode=primary",
        "neon.privileged_role_name='neon_superuser'",
        "neon.extension_server_port=3081",
        SUBSCRIBERS_ON_LINE,
        "include_if_exists = 'compute_ctl_temp_override.conf'",
    ];
    assert_eq!(normal(spec.clone()), expected);
    let text = build(spec).unwrap().render().unwrap();
    assert!(text.expose().starts_with(&format!("{CONF_HEADING}\n\n")));
}

#[test]
fn modes() {
    let lines = normal(with(json!({"mode": {"Static": "0/3d0f2a8"}})));
    let at = lines.iter().position(|line| line == "neon.compute_mode=static").unwrap();
    assert_eq!(lines[at + 1..at + 3], ["hot_standby=on", "recovery_target_lsn='0/3D0F2A8'"]);
    let lines = normal(with(json!({"mode": "Replica"})));
    let at = lines.iter().position(|line| line == "neon.compute_mode=replica").unwrap();
    assert_eq!(lines[at + 1], "hot_standby=on");
    assert_eq!(value_of(&lines, "recovery_target_lsn"), None);
}

#[test]
fn base_text_without_line_feed_stays_a_line() {
    let mut spec = base();
    spec["cluster"]["postgresql_conf"] = json!("port=1");
    let text = build(spec).unwrap().render().unwrap();
    assert!(text.expose().starts_with(&format!("{CONF_HEADING}\nport=1\n")));
}

#[test]
fn the_info_object_hides_the_older_members() {
    let lines = normal(with(json!({
        "pageserver_connection_info": {"shard_count": 0, "shards": {
            "0000": {"pageservers": [{"libpq_url": "host=new"}, {"libpq_url": "host=second"}]}}},
        "pageserver_connstring": "host=old", "shard_stripe_size": 4096
    })));
    assert_eq!(value_of(&lines, CONNSTRING).unwrap(), "'host=new'");
    assert_eq!(value_of(&lines, STRIPE_SIZE), None);
}

#[test]
fn the_older_members() {
    let lines = normal(with(json!({
        "pageserver_connstring": "host=a,host='b'", "shard_stripe_size": 4096
    })));
    let stripe_size = lines.iter().position(|line| line == "neon.stripe_size=4096").unwrap();
    assert_eq!(lines[stripe_size + 1], "neon.pageserver_connstring='host=a,host=''b'''");
}

#[test]
fn a_shard_without_libpq_url_leaves_the_line_out() {
    let conf = build(with(json!({"pageserver_connection_info": {
        "shard_count": 2, "stripe_size": 8, "prefer_protocol": "grpc", "shards": {
            "0002": {"pageservers": [{"libpq_url": "host=a", "grpc_url": "grpc://a"}]},
            "0102": {"pageservers": [{"grpc_url": "grpc://b"}]}}}})));
    let conf = conf.unwrap();
    assert!(!conf.render().unwrap().expose().contains("neon.pageserver_connstring="));
    assert_eq!(conf.remarks().len(), 1);
}

#[test]
fn a_missing_shard_is_named() {
    let error = build(with(json!({"pageserver_connection_info": {
        "shard_count": 2, "shards": {"0002": {"pageservers": [{"libpq_url": "host=a"}]}}}})));
    assert_eq!(
        error.unwrap_err().to_string(),
        "shard 0102 missing from pageserver_connection_info shard map"
    );
}

#[test]
fn limits_of_the_extension_are_errors() {
    let shards = vec!["host=a"; 129].join(",");
    let long = format!("host={}", "a".repeat(251));
    let safekeepers: Vec<_> = (0..32).map(|n| format!("sk-{n}:1")).collect();
    for (member, value, text) in [
        ("pageserver_connstring", json!(shards), "number of shards 129"),
        ("pageserver_connstring", json!(long), "length in bytes of one entry 256"),
        ("safekeeper_connstrings", json!(safekeepers), "number of safekeepers 32"),
    ] {
        let error = build(with(json!({member: value}))).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn generations() {
    for (generation, expected) in
        [(json!(0), "'g#0:b:1,a:1'"), (json!(5), "'g#5:b:1,a:1'"), (Json::Null, "'b:1,a:1'")]
    {
        let lines = normal(with(json!({
            "mode": "Replica",
            "safekeepers_generation": generation, "safekeeper_connstrings": ["b:1", "a:1"]
        })));
        assert_eq!(value_of(&lines, SAFEKEEPERS).unwrap(), expected);
    }
}

#[test]
fn settings_are_written_by_their_vartype() {
    let mut spec = base();
    spec["cluster"]["settings"] = json!([
        {"name": "a.s", "value": "x'y", "vartype": "string"},
        {"name": "a.S", "value": "x'y", "vartype": "String"},
        {"name": "a.e", "value": "logical", "vartype": "enum"},
        {"name": "a.n", "value": null, "vartype": "string"},
        {"name": "neon.compute_mode", "value": "replica", "vartype": "string"}
    ]);
    let lines = normal(spec.clone());
    let from = lines.iter().position(|line| line == "a.s = 'x''y'").unwrap();
    assert_eq!(
        lines[from..from + 4],
        ["a.s = 'x''y'", "a.S = x'y", "a.e = logical", "neon.compute_mode = 'replica'"]
    );
    let own = lines.iter().position(|line| line == "neon.compute_mode=primary").unwrap();
    assert!(own < from, "the list overrides the program's line");
    assert_eq!(build(spec).unwrap().remarks().len(), 2, "a.S and a.n");
}

#[test]
fn a_list_entry_cannot_add_lines() {
    let mut spec = base();
    spec["cluster"]["settings"] =
        json!([{"name": "work_mem", "value": "1\nport = 1", "vartype": "integer"}]);
    let error = build(spec.clone()).unwrap_err();
    assert_eq!(error, ConfError::ControlInRawValue("work_mem".to_owned()));
    spec["cluster"]["settings"][0]["vartype"] = json!("string");
    let lines = normal(spec);
    assert!(lines.contains(&r"work_mem = '1\nport = 1'".to_owned()), "{lines:?}");
}

#[test]
fn what_cannot_be_rendered_is_found_while_building() {
    for (settings, text) in [
        (
            json!([{"name": "a b", "value": "1", "vartype": "integer"}]),
            "\"a b\" in cluster.settings is not the name of a setting",
        ),
        (
            json!([{"name": "a\nport", "value": null, "vartype": "integer"}]),
            "\"a\\nport\" in cluster.settings is not the name of a setting",
        ),
        (
            json!([{"name": "a.b", "value": "planted\0", "vartype": "string"}]),
            "the value of setting a.b holds a NUL byte",
        ),
    ] {
        let mut spec = base();
        spec["cluster"]["settings"] = settings;
        let error = build(spec).unwrap_err().to_string();
        assert!(error.starts_with(text) && !error.contains("planted"), "{error}");
    }
}

#[test]
fn a_base_text_that_postgres_would_refuse_is_refused() {
    for (base_text, text) in [
        (
            "port=1\n\nwork_mem = '4MB\nfsync=on\n",
            "cluster.postgresql_conf, line 3 (setting work_mem): a quote is not closed",
        ),
        ("a = 1\0", "cluster.postgresql_conf, line 1 (setting a): it holds a NUL byte"),
        ("= 1", "cluster.postgresql_conf, line 1: it does not begin with the name of a setting"),
        (
            "a = b c",
            "cluster.postgresql_conf, line 1 (setting a): something follows the value, which must \
             be in quotes if it belongs to it",
        ),
    ] {
        let mut spec = base();
        spec["cluster"]["postgresql_conf"] = json!(base_text);
        assert_eq!(build(spec).unwrap_err().to_string(), text);
    }
}

/// Postgres would refuse the whole file because of one of them.
#[test]
fn settings_without_a_value_are_left_out() {
    let mut spec = base();
    spec["cluster"]["settings"] = json!([
        {"name": "fsync", "value": null, "vartype": "bool"},
        {"name": "work_mem", "value": "2MB", "vartype": "string"},
        {"name": "Work_Mem", "value": null, "vartype": "string"},
        {"name": "wal_level", "value": " \t", "vartype": "enum"},
        {"name": "search_path", "vartype": "string"},
        {"name": "application_name", "value": "", "vartype": "string"}
    ]);
    let lines = normal(spec.clone());
    for line in ["work_mem = '2MB'", "application_name = ''"] {
        assert!(lines.contains(&line.to_owned()), "{lines:?}");
    }
    for name in ["fsync", "Work_Mem", "wal_level", "search_path"] {
        assert!(!lines.iter().any(|line| line.starts_with(name)), "{lines:?}");
    }
    let conf = build(spec).unwrap();
    assert_eq!(conf.unreadable(), []);
    let remark = |name| format!("setting {name} has no value in the spec and is left out");
    assert_eq!(conf.remarks(), ["fsync", "Work_Mem", "wal_level", "search_path"].map(remark));
    assert_eq!(conf.value_in_force("work_mem").unwrap().expose(), "2MB");
}

/// 04 §5.4 and 02 §14.11: such lines are written as documented, and a remark names them.
#[test]
fn lines_that_postgres_refuses_are_named() {
    let mut spec = base();
    spec["cluster"]["settings"] = json!([
        {"name": "test.esc", "value": "here's a \\ and a \"", "vartype": "integer"},
        {"name": "fine", "value": "'quoted'", "vartype": "enum"}
    ]);
    let lines = normal(spec.clone());
    assert!(lines.contains(&r#"test.esc = here's a \ and a ""#.to_owned()), "{lines:?}");
    let conf = build(spec).unwrap();
    let names: Vec<_> = conf.unreadable().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["test.esc"]);
    assert!(conf.remarks()[0].contains("setting test.esc"), "{:?}", conf.remarks());
}

#[test]
fn subscribers_can_be_kept() {
    let mut conf = build(with(json!({"drop_subscriptions_before_start": true}))).unwrap();
    let text = |conf: &ConfFile| conf.render().unwrap().expose().clone();
    assert!(text(&conf).contains("neon.disable_logical_replication_subscribers=true\n"));
    conf.keep_subscribers();
    assert!(text(&conf).contains(&format!("{SUBSCRIBERS_ON_LINE}\n")));
    assert!(!text(&conf).contains("subscribers=true"));
}

#[test]
fn inputs_show_up() {
    let inputs = ConfInputs {
        privileged_role_name: "boss",
        internal_http_port: 4000,
        overcommit_strict: true,
        tls: false,
        lakebase_port: None,
    };
    let spec = serde_json::from_value(base()).unwrap();
    let text = ConfFile::build(&spec, &inputs).unwrap().render().unwrap();
    for line in [
        "neon.privileged_role_name='boss'",
        "neon.extension_server_port=4000",
        "dynamic_shared_memory_type=mmap",
    ] {
        assert!(text.expose().lines().any(|other| other == line), "{line}");
    }
}

/// 04 §3.2 row 10, and §3.4: the settings list may override it.
#[test]
fn tls_stands_between_ids_and_locale() {
    let spec = with(json!({
        "endpoint_id": "ep",
        "cluster": {"roles": [], "databases": [], "settings": [
            {"name": "ssl_cert_file", "value": "other.crt", "vartype": "string"}
        ]}
    }));
    let build = |tls| {
        let conf = ConfFile::build(
            &serde_json::from_value(spec.clone()).unwrap(),
            &ConfInputs { tls, ..INPUTS },
        );
        conf.unwrap().render().unwrap().expose().clone()
    };
    let expected = "neon.endpoint_id='ep'\nssl=on\nssl_cert_file='server.crt'\n\
                    ssl_key_file='server.key'\nlc_messages='C.UTF-8'\n";
    let text = build(true);
    assert!(text.contains(expected), "{text}");
    assert!(text.find("other.crt") > text.find("server.crt"));
    assert!(!build(false).contains("ssl="));
}

#[test]
fn origins_go_from_weak_to_strong() {
    let mut spec = base();
    spec["cluster"]["postgresql_conf"] = json!("a=1");
    spec["cluster"]["settings"] = json!([]);
    let conf = build(spec).unwrap();
    let says_something = |line: &&Line| !matches!(line.body, Body::Comment(_));
    let lines = conf.lines().iter().filter(says_something);
    let ranks: Vec<u8> = lines.map(|line| line.origin as u8).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
}

/// 04 §16: after the log export, and stronger than the settings list.
#[test]
fn lakebase_mode() {
    let spec = with(json!({
        "logs_export_host": "h:1",
        "databricks_settings": {
            "pg_compute_tls_settings":
                {"cert_file": "/t/c.crt", "key_file": "/t/k.key", "ca_file": "/t/it's.ca"},
            "databricks_pg_hba": "/t/hba", "databricks_pg_ident": "/t/ident",
            "databricks_workspace_host": "w.example"
        }
    }));
    let spec: ComputeSpec = serde_json::from_value(spec).unwrap();
    let text = |lakebase_port| {
        let inputs = ConfInputs { lakebase_port, ..INPUTS };
        ConfFile::build(&spec, &inputs).unwrap().render().unwrap().expose().clone()
    };
    assert!(text(Some(6001)).ends_with(
        "log_destination='stderr,syslog'\nport=6001\nssl_ca_file='/t/it''s.ca'\n\
         databricks.workspace_url='w.example'\n\
         databricks.enable_databricks_identity_login=true\n\
         databricks.enable_sql_restrictions=true\n\
         include_if_exists = 'compute_ctl_temp_override.conf'\n"
    ));
    // The object alone does not change this file.
    assert!(!text(None).contains("databricks") && !text(None).contains("port=6001"));
}
