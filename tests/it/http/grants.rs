//! `/grants`: missing privileges are granted, and nothing else happens (03 §8.3, T19); schemas and
//! roles that the server and the program trust are refused.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{on_every_server, on_one_server};

const ROLE: &str = "auth'enticated \"x\"";

fn request(schema: &str, role: &str, privileges: &[&str]) -> Value {
    json!({"database": "postgres", "schema": schema, "privileges": privileges, "role": role})
}

async fn grant(compute: &Compute, body: &Value) -> (u16, Value) {
    let (code, answer) = compute.post_internal("/grants", body).await;
    (code.as_u16(), answer)
}

#[tokio::test]
async fn only_what_is_missing() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("log_statement", "all").set("log_line_prefix", "%a: ");
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let sql = compute.sql().await;
        sql.batch_execute("CREATE ROLE \"auth'enticated \"\"x\"\"\" LOGIN; CREATE SCHEMA \"a\\b\"")
            .await
            .unwrap();
        let both = request("a\\b", ROLE, &["USAGE", "CREATE", "USAGE"]);
        assert_eq!(grant(&compute, &both).await, (201, both.clone()));
        let held = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'a\\b'";
        assert!(compute.sql_text(held).await.contains("=UC/cloud_admin"));
        let granted = "compute_ctl:set_role_grants: LOG:  statement: GRANT USAGE, CREATE ON SCHEMA";
        compute.wait_for_log(granted).await;

        // No statement is executed any more. The one that reads is in the log nevertheless.
        assert_eq!(grant(&compute, &both).await, (201, both));
        let none = request("a\\b", ROLE, &[]);
        assert_eq!(grant(&compute, &none).await, (201, none));
        compute.wait_for_log_times("compute_ctl:set_role_grants: LOG:  statement: SELECT", 3).await;
        compute.assert_logged("statement: GRANT", 1).await;

        // Nor is one for a role that cannot log in (07 W35).
        sql.batch_execute("CREATE ROLE team NOLOGIN").await.unwrap();
        let usage = request("a\\b", "team", &["USAGE"]);
        for _ in 0..2 {
            assert_eq!(grant(&compute, &usage).await, (201, usage.clone()));
        }
        compute.wait_for_log_times("compute_ctl:set_role_grants: LOG:  statement: SELECT", 5).await;
        compute.wait_for_log("statement: GRANT USAGE ON SCHEMA \"a\\b\" TO \"team\"").await;
        compute.assert_logged("statement: GRANT", 2).await;

        let (code, body) = grant(&compute, &request("a\\b", ROLE, &["SELECT"])).await;
        assert_eq!(code, 500);
        let error = body["error"].as_str().unwrap();
        let step = "failed to grant role privileges to the schema: Failed to execute query: \
                    GRANT SELECT ON SCHEMA \"a\\b\" TO";
        assert!(error.starts_with(step), "{error}");
        let (code, body) = grant(&compute, &request("a\\b", ROLE, &["usage"])).await;
        assert_eq!(code, 422);
        let error = body["error"].as_str().unwrap();
        let step = "failed to deserialize the json body into the target type: privileges[0]: ";
        assert!(error.starts_with(step), "{error}");

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Rights that the catalog has from the beginning: owners of databases hold both on `public`.
#[tokio::test]
async fn on_a_replica_what_is_there_is_not_written() {
    on_one_server(|server| async {
        let major = server.major;
        let mut bed = Bed::new(server).await;
        bed.spec.mode = json!("Replica");
        let mut compute = bed.start();
        compute.wait_for("running").await;
        if major >= 15 {
            let there = request("public", "pg_database_owner", &["USAGE", "CREATE"]);
            assert_eq!(grant(&compute, &there).await, (201, there));
        }
        let missing = request("public", "pg_monitor", &["CREATE"]);
        assert_eq!(grant(&compute, &missing).await.0, 500);
        let superuser = request("public", "cloud_admin", &["USAGE"]);
        assert_eq!(grant(&compute, &superuser).await.0, 403);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// With CREATE on `pg_catalog` a role can replace the server's code by its own; `public` means
/// every role, also in quotes.
#[tokio::test]
async fn what_the_server_and_the_program_trust_is_refused() {
    on_every_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let sql = compute.sql().await;
        sql.batch_execute(
            "CREATE SCHEMA auth; CREATE SCHEMA IF NOT EXISTS neon;
            CREATE SCHEMA IF NOT EXISTS neon_migration;
            CREATE ROLE tenant LOGIN CREATEROLE; CREATE ROLE \"su\"\"per\" SUPERUSER;
            CREATE ROLE middle IN ROLE \"su\"\"per\"; CREATE ROLE member IN ROLE middle",
        )
        .await
        .unwrap();
        let held = "SELECT string_agg(nspname || coalesce(nspacl::text, ''), ' ' ORDER BY nspname) \
            FROM pg_namespace";
        let before = compute.sql_text(held).await;
        let refused = async |schema: &str, role: &str, part: &str| {
            let (code, body) = grant(&compute, &request(schema, role, &["USAGE", "CREATE"])).await;
            let error = body["error"].as_str().unwrap_or_default();
            assert!(code == 403 && error.contains(part), "{schema} {role}: {code} {body}");
        };
        for schema in
            ["pg_catalog", "pg_toast", "pg_temp_1", "information_schema", "neon", "neon_migration"]
        {
            refused(schema, "tenant", &format!("schema {schema:?} belongs to")).await;
        }
        refused("auth", "public", "every role").await;
        refused("auth", "su\"per", r#"role "su\"per" is a superuser"#).await;
        refused("auth", "cloud_admin", "is a superuser").await;
        for role in ["middle", "member"] {
            refused("auth", role, "is a member of a superuser").await;
        }
        assert_eq!(compute.sql_text(held).await, before);

        // Only the exact names and attributes decide what is refused.
        sql.batch_execute("REVOKE middle FROM member; CREATE ROLE \"PUBLIC\"").await.unwrap();
        for role in ["tenant", "member", "PUBLIC", "pg_monitor"] {
            let usage = request("auth", role, &["USAGE"]);
            assert_eq!(grant(&compute, &usage).await, (201, usage));
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
