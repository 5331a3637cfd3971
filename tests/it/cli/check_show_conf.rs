//! `compute_ctl check --show-conf`: the settings with their origin, without their secrets, and
//! marked where a running server would need a restart.

use serde_json::{Value, json};

use crate::support::process::check;
use crate::support::server::{Vanilla, on_every_server};

fn document() -> Value {
    let setting = |name: &str, value: &str, vartype: &str| json!({"name": name, "value": value, "vartype": vartype});
    json!({
        "spec": {
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "cluster": {
                "roles": [], "databases": [],
                "postgresql_conf": "# planted\nmax_connections=10\nwal_level = 'minimal'\n\
                    primary_conninfo='host=h password=''planted it'' user=u'\n",
                "settings": [
                    setting("max_connections", "112", "integer"),
                    setting("shared_buffers", "16MB", "string"),
                    setting("max_worker_processes", "9", "integer"),
                    setting("wal_level", "Logical", "enum"),
                    setting("work_mem", "77MB", "integer"),
                    setting("no_such_setting", "1", "integer"),
                    setting("max_wal_senders", "many", "string"),
                    setting("neon.endpoint_storage_token", "planted", "string"),
                    setting("app.motto", "it's C:\\here", "string")
                ]
            },
            "tenant_id": "51b0c7e2a94d4c06b3f7d1e8a2640f9c",
            "timeline_id": "e7d25a1c90b84f3fa6120c4b8d93f57e",
            "pageserver_connstring": "postgres://no_user:planted@127.0.0.1:1",
            "safekeeper_connstrings": ["127.0.0.1:1"],
            "storage_auth_token": "planted"
        },
        "compute_ctl_config": {"jwks": {"keys": []}}
    })
}

fn write(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("config.json");
    std::fs::write(&path, document().to_string()).unwrap();
    path.display().to_string()
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|other| other.trim() == *line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("planted"), "{text}");
}

#[tokio::test]
async fn settings_with_their_origin() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder);
    let checked = check(&["-c", &path, "--show-conf", "--internal-http-port", "4000"]).await;
    // Postgres refuses two of the settings; they are shown all the same.
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let text = checked.stdout.as_str();
    assert_lines(
        text,
        &[
            "base text  max_connections = 10  (overridden)",
            "base text  primary_conninfo = 'host=h password=[secret] user=u'",
            "program    neon.pageserver_connstring = 'postgres://no_user:[secret]@127.0.0.1:1'",
            "program    neon.compute_mode = primary",
            "spec list  max_connections = 112",
            "spec list  neon.endpoint_storage_token = [secret]",
            r"spec list  app.motto = 'it''s C:\\here'",
            "appended   neon.extension_server_port = 4000",
            "override   include_if_exists = 'compute_ctl_temp_override.conf'",
        ],
    );
    let at = |line: &str| text.find(line).unwrap();
    assert!(
        at("max_connections = 10 ") < at("neon.compute_mode")
            && at("neon.compute_mode") < at("= 112")
    );
}

#[tokio::test]
async fn what_needs_a_restart_is_marked() {
    on_every_server(|server| async move {
        let options = [
            "max_connections=100",
            "shared_buffers=16MB",
            "wal_level=logical",
            "max_worker_processes=8",
        ];
        let vanilla = Vanilla::start(&server, &options).await;
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder);
        let checked = check(&["-c", &path, "--show-conf", "--connstr", &vanilla.url()]).await;
        assert_lines(
            &checked.stdout,
            &[
                "base text  max_connections = 10  (overridden)",
                "spec list  max_connections = 112  (needs a restart, the server has 100)",
                "spec list  shared_buffers = 16MB",
                "spec list  max_worker_processes = 9  (needs a restart, the server has 8)",
                "spec list  wal_level = Logical",
                "spec list  work_mem = 77MB",
                "spec list  no_such_setting = 1  (the server does not know this setting)",
                "spec list  max_wal_senders = many  (the server does not take this value)",
                r"spec list  app.motto = 'it''s C:\\here'",
            ],
        );
        vanilla.stop().await;

        let url = "postgresql://u:planted@127.0.0.1:1/postgres";
        let checked = check(&["-c", &path, "--show-conf", "--connstr", url]).await;
        assert!(checked.bad().contains("could not connect to Postgres"), "{checked:?}");
        assert!(!checked.stderr.contains("planted"), "{checked:?}");
    })
    .await;
}
