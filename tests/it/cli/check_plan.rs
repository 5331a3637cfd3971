//! `compute_ctl check --plan`: shows what an apply would do without doing it.

use serde_json::{Value, json};

use crate::support::process::{SCRAM, check, client};
use crate::support::server::{Vanilla, on_one_server};

fn document() -> Value {
    json!({
        "spec": {
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "drop_subscriptions_before_start": true,
            "cluster": {
                "roles": [
                    {"name": "ann", "encrypted_password": SCRAM},
                    {"name": "cloud_admin"},
                ],
                "databases": [
                    {"name": "store", "owner": "ann"},
                    {"name": "old", "owner": "ann"},
                    {"name": "postgres", "owner": "cloud_admin"}
                ],
                "settings": []
            },
            "delta_operations": [{"action": "delete_db", "name": "gone"}],
            "tenant_id": "51b0c7e2a94d4c06b3f7d1e8a2640f9c",
            "timeline_id": "e7d25a1c90b84f3fa6120c4b8d93f57e",
            "pageserver_connstring": "postgres://no_user@127.0.0.1:1",
            "safekeeper_connstrings": ["127.0.0.1:1"]
        },
        "compute_ctl_config": {"jwks": {"keys": []}}
    })
}

#[tokio::test]
async fn the_plan_is_printed_and_not_run() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        for sql in ["CREATE DATABASE old", "CREATE DATABASE gone"] {
            vanilla.client.batch_execute(sql).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, document().to_string()).unwrap();
        let path = path.display().to_string();
        let state = "SELECT string_agg(x, ' ' ORDER BY x) FROM (SELECT rolname::text FROM pg_authid \
            UNION ALL SELECT datname::text || datdba || coalesce(datacl::text, '') FROM pg_database \
            UNION ALL SELECT nspname::text FROM pg_namespace) s (x)";
        let state = || async {
            vanilla.client.query_one(state, &[]).await.unwrap().get::<_, String>(0)
        };
        let before = state().await;
        let checked = check(&["-c", &path, "--plan", "--connstr", &vanilla.url()]).await;
        let text = checked.good();
        let short = client(&["plan", "-c", &path, "-C", &vanilla.url()]).await;
        assert_eq!((short.code, short.stdout.as_str()), (Some(0), text), "{short:?}");
        for line in [
            "privileged_role: create role \"neon_superuser\" (users are its members), in database \
             \"postgres\" as cloud_admin",
            "roles: create role \"ann\" (not there), in database \"postgres\" as cloud_admin",
            "remove_databases: drop database \"gone\" (delta operation), in database \"postgres\" as \
             cloud_admin",
            "databases: create database \"store\" (not there), in database \"postgres\" as cloud_admin",
            "databases: change the owner of database \"old\" (its owner is \"cloud_admin\"), in \
             database \"postgres\" as cloud_admin",
            "inside_databases: grant default privileges in schema \"public\" (missing on tables), in \
             database \"store\" as cloud_admin",
            "inside_databases: grant default privileges in schema \"public\" (missing on tables), in \
             database \"old\" as cloud_admin",
            "record_subscriptions: write into table \"neon.drop_subscriptions_done\" (inherited \
             subscriptions are gone), in database \"postgres\" as cloud_admin",
        ] {
            assert!(text.lines().any(|other| other.trim() == line), "no {line:?} in\n{text}");
        }
        assert!(!text.contains("SCRAM") && text.contains("can be used"), "{text}");
        assert_eq!(state().await, before, "nothing has changed");
        vanilla.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_plan_needs_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, document().to_string()).unwrap();
    let path = path.display().to_string();
    assert_eq!(check(&["-c", &path, "--plan"]).await.code, Some(2));
    let url = "postgresql://u:planted@127.0.0.1:1/postgres";
    let checked = check(&["-c", &path, "--plan", "--connstr", url]).await;
    assert!(checked.bad().contains("could not connect to Postgres"), "{checked:?}");
    assert!(!checked.stderr.contains("planted"), "{checked:?}");
}
