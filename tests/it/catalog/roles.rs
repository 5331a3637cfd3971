//! Roles of the spec: passwords, attributes, renames, and what fails (05 §21 no. 3 to 7, 32).

use serde_json::json;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, SCRAM, rename, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

const MD5: &str = "0cc175b9c0f1b6a831c399e269772661";
const ROLES: &str = "SELECT rolname, rolpassword, rolcanlogin, rolinherit, rolcreaterole, \
    rolcreatedb, rolreplication, rolbypassrls, rolsuper, \
    (SELECT string_agg(m.roleid::regrole::text, ',') FROM pg_auth_members m WHERE m.member = r.oid) \
    FROM pg_authid r WHERE rolname IN ('scram', 'md5', 'plain', 'web') ORDER BY 1";

#[tokio::test]
async fn passwords_and_attributes() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("scram", Some(SCRAM)).role("md5", Some(MD5)).role("plain", None);
        bed.spec.role("web", None).role("cloud_admin", Some(MD5));
        bed.spec.member(
            "local_proxy_config",
            json!({"jwks": [{"id": "1", "role_names": ["web"], "jwks_url": "http://127.0.0.1/",
                "provider_name": "p", "jwt_audience": null}]}),
        );
        compute.apply(&bed).await;
        let expected = [
            format!("md5|md5{MD5}|t|t|t|t|t|t|f|neon_superuser"),
            "plain|NULL|t|t|t|t|t|t|f|neon_superuser".to_owned(),
            format!("scram|{SCRAM}|t|t|t|t|t|t|f|neon_superuser"),
            "web|NULL|t|t|f|f|f|f|f|NULL".to_owned(),
        ];
        assert_eq!(compute.rows(ROLES).await, expected);
        let admin = "SELECT rolpassword FROM pg_authid WHERE rolname = 'cloud_admin'";
        assert_eq!(compute.rows(admin).await, [format!("md5{MD5}")]);
        compute.apply_changes_nothing(&bed).await;

        // Attributes are never compared; they are set together with the password.
        compute.run("ALTER ROLE scram NOLOGIN").await;
        compute.apply_changes_nothing(&bed).await;
        let login = "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'scram'";
        assert_eq!(compute.rows(login).await, ["f"]);
        compute.run("ALTER ROLE scram PASSWORD NULL NOCREATEDB").await;
        compute.apply(&bed).await;
        assert_eq!(compute.rows(login).await, ["t"]);
        let attribute = "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'scram'";
        assert_eq!(compute.rows(attribute).await, ["f"], "it gains no right");
        assert!(!compute.log().contains(SCRAM), "a verifier is in the log");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn options_of_new_roles() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.roles.push(json!({"name": "limited", "options": [
            {"name": "CONNECTION LIMIT", "value": "5", "vartype": "integer"},
            {"name": "VALID UNTIL", "value": "2031-02-03 04:05:06+00", "vartype": "string"}]}));
        compute.apply(&bed).await;
        let role = "SELECT rolconnlimit, rolvaliduntil AT TIME ZONE 'UTC' FROM pg_roles \
            WHERE rolname = 'limited'";
        assert_eq!(compute.rows(role).await, ["5|2031-02-03 04:05:06"]);

        bed.spec.roles.push(json!({"name": "torn", "options": [
            {"name": "NOINHERIT", "value": null, "vartype": "bool"}]}));
        let error = compute.apply_fails(&bed).await;
        assert!(error.contains("could not create role") && error.contains("torn"), "{error}");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// After a failed phase no later phase runs, and the failed phase leaves nothing.
#[tokio::test]
async fn a_role_that_postgres_refuses() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("r1", None).role("pg_bad", None).role("r2", None).database("d", "r1");
        let error = compute.apply_fails(&bed).await;
        for part in ["could not create role", "\\\"pg_bad\\\" in database", "is reserved"] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        let made = "SELECT 1 FROM pg_database WHERE datname = 'd' \
            UNION ALL SELECT 2 FROM pg_roles WHERE rolname IN ('r1', 'r2', 'pg_bad')";
        assert!(compute.rows(made).await.is_empty());
        compute.end().await;

        // A start fails the same way, and ends there.
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        assert!(error.contains("role name \"pg_bad\" is reserved"), "{error}");
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_role_is_renamed_and_keeps_what_it_has() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("old \"name\"", Some(MD5)).database("d", "old \"name\"");
        compute.apply(&bed).await;
        bed.spec.roles.clear();
        bed.spec.databases.clear();
        bed.spec.role("new name", Some(MD5)).database("d", "new name");
        bed.spec.member(
            "delta_operations",
            json!([
                rename("rename_role", "old \"name\"", "new name"),
                rename("rename_role", "nobody", "somebody")
            ]),
        );
        compute.apply(&bed).await;
        let roles = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE '% %'";
        assert_eq!(compute.rows(roles).await, [format!("new name|md5{MD5}")]);
        let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'd'";
        assert_eq!(compute.rows(owner).await, ["new name"]);
        compute.assert_logged("is not there and so not renamed", 1).await;
        compute.apply_changes_nothing(&bed).await;

        bed.spec.member("delta_operations", json!([{"action": "rename_role", "name": "x"}]));
        let error = compute.refuses(&bed).await;
        assert!(error.contains("has no new_name"), "{error}");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Whether the server lets a role in with a password.
async fn logs_in(compute: &Compute, role: &str, password: &str) -> bool {
    let mut config: tokio_postgres::Config = compute.connstr.parse().unwrap();
    match config.user(role).password(password).connect(NoTls).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD), "{error:?}");
            false
        }
    }
}

/// The original turns an empty text into the password `md5`. Texts that Postgres would hash are
/// recognised.
#[tokio::test]
async fn texts_that_are_not_verifiers() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("password_encryption", "scram-sha-256");
        let mut compute = running_for_catalog(&mut bed).await;
        compute.run("CREATE ROLE had LOGIN PASSWORD 'before'").await;
        bed.spec.role("ann", Some("")).role("had", Some("")).role("bob", Some("short"));
        compute.apply(&bed).await;
        let stored = "SELECT rolname, rolpassword IS NULL FROM pg_authid \
            WHERE rolname IN ('ann', 'had', 'bob') ORDER BY 1";
        assert_eq!(compute.rows(stored).await, ["ann|t", "bob|f", "had|t"]);
        compute.apply_changes_nothing(&bed).await;
        // At each apply, because the spec is unchanged.
        for role in ["ann", "had"] {
            let line = format!("encrypted_password of role \"{role}\" is empty");
            compute.wait_for_log_times(&line, 2).await;
        }
        let line = "encrypted_password of role \"bob\" is neither a SCRAM verifier nor";
        compute.wait_for_log_times(line, 2).await;

        let rules = bed.pgdata().join("pg_hba.conf");
        let trusting = std::fs::read_to_string(&rules).unwrap();
        let asking = "host all ann,had,bob all scram-sha-256\n";
        std::fs::write(&rules, format!("{asking}{trusting}")).unwrap();
        compute.run("SELECT pg_reload_conf()").await;
        until("passwords are asked for", || async { !logs_in(&compute, "bob", "wrong").await })
            .await;
        assert!(logs_in(&compute, "bob", "md5short").await, "as the warning says");
        for role in ["ann", "had"] {
            for password in ["md5", "before"] {
                assert!(!logs_in(&compute, role, password).await, "{role} {password}");
            }
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
