//! The worked examples of 04 §5, and the checks of 04 §15 that need no server.

use super::*;
use serde_json::{Value as Json, json};

const INPUTS: ConfInputs<'_> = ConfInputs {
    privileged_role_name: "neon_superuser",
    internal_http_port: 3081,
    overcommit_strict: false,
    tls: false,
    lakebase_port: None,
};

/// The lines that need the key pair (04 §3.2 row 10): present in the example, written only with
/// TLS.
const TLS: [&str; 3] = ["ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'"];

/// `N` of 04 §15: neither comments nor empty lines, split at the first `=`, trimmed.
fn normal(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            (name.trim().to_owned(), value.trim().to_owned())
        })
        .collect()
}

fn render(spec: &Json, inputs: &ConfInputs<'_>) -> String {
    let spec = serde_json::from_value(spec.clone()).unwrap();
    ConfFile::build(&spec, inputs).unwrap().render().unwrap().expose().clone()
}

fn built(spec: &Json) -> Vec<(String, String)> {
    normal(&render(spec, &INPUTS))
}

fn without_tls(text: &str) -> String {
    let lines = text.lines().filter(|line| !TLS.contains(line));
    lines.map(|line| format!("{line}\n")).collect()
}

fn sharded() -> Json {
    json!({
        "format_version": 1.0,
        "operation_uuid": "3f0c7f0a-6c1e-4f59-9a63-0d8a0a3f1c11",
        "suspend_timeout_seconds": 300,
        "features": ["tls_experimental"],
        "cluster": {
            "cluster_id": "prj-amber-otter-118", "name": "amber", "state": "restarted",
            "roles": [], "databases": [],
            "postgresql_conf":
                "max_wal_senders=10\nwal_level=logical\nshared_preload_libraries=neon\n",
            "settings": [
                {"name": "max_connections", "value": "112", "vartype": "integer"},
                {"name": "shared_buffers", "value": "128MB", "vartype": "string"},
                {"name": "shared_preload_libraries", "value": "neon,pg_stat_statements", "vartype": "string"},
                {"name": "neon.max_cluster_size", "value": "4096", "vartype": "integer"},
                {"name": "synchronous_standby_names", "value": "walproposer", "vartype": "string"},
                {"name": "app.motto", "value": "it's C:\\here", "vartype": "string"}
            ]
        },
        "tenant_id": "5ae1c0d2b3f44e6798a1b2c3d4e5f601",
        "timeline_id": "0c9f8e7d6b5a49382716f5e4d3c2b1a0",
        "project_id": "prj-amber-otter-118",
        "branch_id": "br-quiet-fern-77",
        "endpoint_id": "ep-still-lake-42",
        "mode": "Primary",
        "pageserver_connection_info": {
            "shard_count": 2, "stripe_size": 2048, "prefer_protocol": "libpq",
            "shards": {
                "0002": {"pageservers": [{"id": 11, "libpq_url": "postgres://no_user@ps-11.local:6400", "grpc_url": null}]},
                "0102": {"pageservers": [{"id": 12, "libpq_url": "postgres://no_user@ps-12.local:6400", "grpc_url": null}]}
            }
        },
        "safekeepers_generation": 7,
        "safekeeper_connstrings": ["sk-1.local:5454", "sk-2.local:5454", "sk-3.local:5454"],
        "drop_subscriptions_before_start": true,
        "audit_log_level": "Extended",
        "logs_export_host": "otel-collector.telemetry.svc:10514"
    })
}

const SHARDED: &str = r"max_wal_senders=10
wal_level=logical
shared_preload_libraries=neon
neon.stripe_size=2048
neon.pageserver_connstring='postgres://no_user@ps-11.local:6400,postgres://no_user@ps-12.local:6400'
neon.safekeepers='g#7:sk-1.local:5454,sk-2.local:5454,sk-3.local:5454'
neon.tenant_id='5ae1c0d2b3f44e6798a1b2c3d4e5f601'
neon.timeline_id='0c9f8e7d6b5a49382716f5e4d3c2b1a0'
neon.project_id='prj-amber-otter-118'
neon.branch_id='br-quiet-fern-77'
neon.endpoint_id='ep-still-lake-42'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
lc_messages='C.UTF-8'
lc_monetary='C.UTF-8'
lc_time='C.UTF-8'
lc_numeric='C.UTF-8'
neon.compute_mode=primary
neon.privileged_role_name='neon_superuser'
max_connections = 112
shared_buffers = '128MB'
shared_preload_libraries = 'neon,pg_stat_statements'
neon.max_cluster_size = 4096
synchronous_standby_names = 'walproposer'
app.motto = 'it''s C:\\here'
pgaudit.log_parameter=off
pgaudit.log='all, -misc'
pgaudit.log_catalog=off
pgaudit.log_rotation_age=5
shared_preload_libraries='neon,pg_stat_statements,pgaudit,pgauditlogtofile'
neon.extension_server_port=3081
neon.disable_logical_replication_subscribers=true
log_destination='stderr,syslog'
include_if_exists = 'compute_ctl_temp_override.conf'
";

/// 04 §5.1, byte for byte: only the comments differ from the document.
#[test]
fn primary_with_shards() {
    let text = render(&sharded(), &INPUTS);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(text, without_tls(SHARDED));
}

/// C1 of 04 §15.
#[test]
fn without_audit_and_export() {
    let mut spec = sharded();
    spec["features"] = json!([]);
    spec["audit_log_level"] = json!("Disabled");
    spec["logs_export_host"] = Json::Null;
    let mut expected = normal(&without_tls(SHARDED));
    expected.retain(|(name, value)| {
        !name.starts_with("pgaudit.")
            && name != "log_destination"
            && !(name == "shared_preload_libraries" && value.contains("pgaudit"))
    });
    assert_eq!(built(&spec), expected);
}

fn replica() -> Json {
    json!({
        "format_version": 1.0,
        "suspend_timeout_seconds": -1,
        "cluster": {
            "roles": [], "databases": [],
            "postgresql_conf": concat!(
                "max_connections=100\nport=55441\n",
                "primary_conninfo='host=127.0.0.1,127.0.0.1 port=5454,5455 ",
                "options=''-c timeline_id=0c9f8e7d6b5a49382716f5e4d3c2b1a0 ",
                "tenant_id=5ae1c0d2b3f44e6798a1b2c3d4e5f601'' ",
                "application_name=replica replication=true'\n",
                "primary_slot_name='repl_0c9f8e7d6b5a49382716f5e4d3c2b1a0_'\n",
                "hot_standby=on\nrecovery_prefetch=off\n"
            ),
            "settings": null
        },
        "tenant_id": "5ae1c0d2b3f44e6798a1b2c3d4e5f601",
        "timeline_id": "0c9f8e7d6b5a49382716f5e4d3c2b1a0",
        "endpoint_id": "ep-ro-9",
        "mode": "Replica",
        "pageserver_connection_info": {
            "shard_count": 0, "stripe_size": null,
            "shards": {"0000": {"pageservers": [{
                "id": 1,
                "libpq_url": "postgres://no_user@127.0.0.1:6400",
                "grpc_url": "grpc://no_user@127.0.0.1:51051"
            }]}}
        }
    })
}

const REPLICA: &str = r"
max_connections=100
port=55441
primary_conninfo='host=127.0.0.1,127.0.0.1 port=5454,5455 options=''-c timeline_id=0c9f8e7d6b5a49382716f5e4d3c2b1a0 tenant_id=5ae1c0d2b3f44e6798a1b2c3d4e5f601'' application_name=replica replication=true'
primary_slot_name='repl_0c9f8e7d6b5a49382716f5e4d3c2b1a0_'
hot_standby=on
recovery_prefetch=off
neon.pageserver_connstring='postgres://no_user@127.0.0.1:6400'
neon.tenant_id='5ae1c0d2b3f44e6798a1b2c3d4e5f601'
neon.timeline_id='0c9f8e7d6b5a49382716f5e4d3c2b1a0'
neon.endpoint_id='ep-ro-9'
lc_messages='C.UTF-8'
lc_monetary='C.UTF-8'
lc_time='C.UTF-8'
lc_numeric='C.UTF-8'
neon.compute_mode=replica
hot_standby=on
neon.privileged_role_name='neon_superuser'
neon.extension_server_port=3081
neon.disable_logical_replication_subscribers=false
include_if_exists = 'compute_ctl_temp_override.conf'
";

/// 04 §5.2.
#[test]
fn unsharded_replica() {
    assert_eq!(built(&replica()), normal(REPLICA));
}

/// 04 §5.3.
#[test]
fn static_node_from_the_settings_list() {
    let spec = json!({
        "format_version": 1.0,
        "suspend_timeout_seconds": 0,
        "cluster": {
            "roles": [], "databases": [],
            "settings": [
                {"name": "port", "value": "55500", "vartype": "integer"},
                {"name": "shared_preload_libraries", "value": "neon", "vartype": "string"},
                {"name": "neon.tenant_id", "value": "aa11bb22cc33dd44ee55ff6677889900", "vartype": "string"},
                {"name": "neon.timeline_id", "value": "00998877665544332211ffeeddccbbaa", "vartype": "string"},
                {"name": "neon.pageserver_connstring", "value": "host=ps port=6400", "vartype": "string"}
            ]
        },
        "mode": {"Static": "0/3D0F2A8"},
        "audit_log_level": "Base"
    });
    let expected = r"
lc_messages='C.UTF-8'
lc_monetary='C.UTF-8'
lc_time='C.UTF-8'
lc_numeric='C.UTF-8'
neon.compute_mode=static
hot_standby=on
recovery_target_lsn='0/3D0F2A8'
neon.privileged_role_name='neon_superuser'
port = 55500
shared_preload_libraries = 'neon'
neon.tenant_id = 'aa11bb22cc33dd44ee55ff6677889900'
neon.timeline_id = '00998877665544332211ffeeddccbbaa'
neon.pageserver_connstring = 'host=ps port=6400'
pgaudit.log='ddl,role'
pgaudit.log_catalog=off
shared_preload_libraries='neon,pgaudit'
neon.extension_server_port=3081
neon.disable_logical_replication_subscribers=false
include_if_exists = 'compute_ctl_temp_override.conf'
";
    assert_eq!(built(&spec), normal(expected));
}

/// 04 §5.2 with changes: `gone` lines are missing, `come` lines stand before the line `before`.
fn varied(spec: &Json, inputs: &ConfInputs<'_>, gone: &[&str], before: &str, come: &str) {
    let mut expected = normal(REPLICA);
    expected.retain(|(name, _)| !gone.contains(&name.as_str()));
    let at = expected.iter().position(|(name, _)| name == before).unwrap();
    expected.splice(at..at, normal(come));
    assert_eq!(normal(&render(spec, inputs)), expected);
}

/// 04 §5.4. Its last two rows are tested in `rows_tests` (an entry without a value) and `audit`
/// (whole library names are compared, 04 W12).
#[test]
fn variations() {
    let connstring = "neon.pageserver_connstring";
    let port = "neon.extension_server_port";
    let mut spec = replica();
    spec["pageserver_connection_info"]["shards"]["0000"]["pageservers"][0]["libpq_url"] =
        Json::Null;
    varied(&spec, &INPUTS, &[connstring], port, "");

    let mut spec = replica();
    spec["cluster"]["settings"] = json!([]);
    varied(&spec, &INPUTS, &[], port, "");

    let mut spec = replica();
    spec["audit_log_level"] = json!("Full");
    let full = "pgaudit.log_parameter=on\npgaudit.log='all'\npgaudit.log_catalog=off\n\
                pgaudit.log_rotation_age=5\n\
                shared_preload_libraries='neon,pgaudit,pgauditlogtofile'";
    varied(&spec, &INPUTS, &[], port, full);

    let mut spec = replica();
    spec["safekeepers_generation"] = json!(0);
    spec["safekeeper_connstrings"] = json!(["a:1"]);
    varied(&spec, &INPUTS, &[], "neon.tenant_id", "neon.safekeepers='g#0:a:1'");

    let strict = ConfInputs { overcommit_strict: true, ..INPUTS };
    let mmap = "dynamic_shared_memory_type = mmap";
    varied(&replica(), &strict, &[], "neon.privileged_role_name", mmap);
}

/// C7, as far as the order of the lines decides it.
#[test]
fn the_list_overrides_the_program_and_not_what_is_appended() {
    let mut spec = replica();
    spec["logs_export_host"] = json!("c.x:10514");
    spec["cluster"]["settings"] = json!([
        {"name": "neon.compute_mode", "value": "primary", "vartype": "enum"},
        {"name": "neon.extension_server_port", "value": "1", "vartype": "integer"},
        {"name": "log_destination", "value": "csvlog", "vartype": "string"}
    ]);
    let lines = built(&spec);
    let last = |name: &str| {
        let line = lines.iter().rfind(|line| line.0 == name);
        line.map(|line| line.1.clone()).unwrap()
    };
    assert_eq!(last("neon.compute_mode"), "primary");
    assert_eq!(last("neon.extension_server_port"), "3081");
    assert_eq!(last("log_destination"), "'stderr,syslog'");
}
