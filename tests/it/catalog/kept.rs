//! Which properties of existing roles and databases an apply leaves alone, and how it treats each
//! form of an existing password (05 §7.5, §7.7, §10).

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, SCRAM, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

const MD5: &str = "0cc175b9c0f1b6a831c399e269772661";
const OTHER_SCRAM: &str = "SCRAM-SHA-256$4096:5v5hBkTOoLEnWZRY6ImPLA==$\
    xw0S7uZf+4P2xJVU7mbqJGZQ4FGnCdIXTqxVsTvmsV8=:MTuFJQgkqTHmXQKdMnvdJwJQyQqXmoaxCv2iTQk2zZk=";

async fn password(compute: &Compute, role: &str) -> String {
    let query = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'");
    compute.sql_text(&query).await
}

#[tokio::test]
async fn settings_memberships_and_privileges() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).role("bob", None).database("store", "ann");
        compute.apply(&bed).await;
        compute
            .run(
                "CREATE ROLE mine; GRANT mine TO ann; REVOKE neon_superuser FROM bob; \
                 ALTER ROLE ann SET work_mem = '1MB' NOCREATEROLE CONNECTION LIMIT 7; \
                 ALTER DATABASE store SET work_mem = '2MB'; \
                 ALTER DATABASE store CONNECTION LIMIT 9; \
                 REVOKE ALL ON DATABASE store FROM neon_superuser, PUBLIC"
                    .replace("'1MB' NOCREATEROLE", "'1MB'; ALTER ROLE ann NOCREATEROLE")
                    .as_str(),
            )
            .await;
        let state = "SELECT rolname, rolcreaterole, rolconnlimit, rolconfig, \
                (SELECT string_agg(roleid::regrole::text, ',' ORDER BY 1) FROM pg_auth_members \
                 WHERE member = r.oid)
            FROM (SELECT a.*, s.setconfig AS rolconfig FROM pg_authid a \
                LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid) r \
            WHERE rolname IN ('ann', 'bob', 'mine') \
            UNION ALL SELECT datname, datallowconn, datconnlimit, \
                (SELECT setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid), datacl::text \
            FROM pg_database d WHERE datname IN ('store', 'template0', 'template1') ORDER BY 1";
        let before = compute.rows(state).await;
        assert_eq!(before.len(), 6);
        // Only the password of ann is set.
        bed.spec.roles.clear();
        bed.spec.role("ann", Some(SCRAM)).role("bob", None);
        compute.apply(&bed).await;
        assert_eq!(password(&compute, "ann").await, SCRAM);
        assert_eq!(compute.rows(state).await, before);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn from_each_form_of_a_password_to_each_other() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        let forms = [None, Some(MD5), Some(SCRAM), Some(OTHER_SCRAM)];
        let stored = |form: Option<&str>| match form {
            None => "NULL".to_owned(),
            Some(MD5) => format!("md5{MD5}"),
            Some(scram) => scram.to_owned(),
        };
        let pairs = forms.iter().flat_map(|from| forms.iter().map(move |to| (*from, *to)));
        let pairs: Vec<_> = pairs.collect();
        for end in [false, true] {
            bed.spec.roles.clear();
            for (number, (from, to)) in pairs.iter().enumerate() {
                bed.spec.role(&format!("r{number}"), if end { *to } else { *from });
            }
            compute.apply(&bed).await;
            for (number, (from, to)) in pairs.iter().enumerate() {
                let wanted = stored(if end { *to } else { *from });
                assert_eq!(password(&compute, &format!("r{number}")).await, wanted);
            }
        }
        // Only those that differ were altered, each once.
        compute.assert_logged("done: alter role", 12).await;
        compute.apply_changes_nothing(&bed).await;

        // A password that a user sets is reverted, also if the spec has null.
        compute.run("ALTER ROLE r0 PASSWORD 'mine'; ALTER ROLE r15 PASSWORD NULL").await;
        compute.apply(&bed).await;
        assert_eq!(password(&compute, "r0").await, "NULL");
        assert_eq!(password(&compute, "r15").await, OTHER_SCRAM);
        for secret in [MD5, SCRAM, OTHER_SCRAM] {
            assert!(!compute.log().contains(secret), "a verifier is in the log");
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_role_of_the_local_proxy_is_that_only_when_it_is_made() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        let jwks = |role: &str| {
            json!({"jwks": [{"id": "1", "role_names": [role], "jwks_url": "http://127.0.0.1/",
                "provider_name": "p", "jwt_audience": null}]})
        };
        bed.spec.role("web", None).role("user", None).member("local_proxy_config", jwks("web"));
        compute.apply(&bed).await;
        let rights = "SELECT rolname, rolcreatedb, \
            (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) \
            FROM pg_roles r WHERE rolname IN ('web', 'user') ORDER BY 1";
        let made = ["user|t|1", "web|f|0"];
        assert_eq!(compute.rows(rights).await, made);
        bed.spec.roles.clear();
        bed.spec.role("web", Some(MD5)).role("user", Some(MD5));
        bed.spec.member("local_proxy_config", jwks("user"));
        compute.apply(&bed).await;
        assert_eq!(password(&compute, "web").await, format!("md5{MD5}"));
        assert_eq!(compute.rows(rights).await, made, "neither promoted nor demoted");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Without its prefix, or with a digit too few, Postgres takes it for a password in plain text.
#[tokio::test]
async fn what_is_not_a_hash_is_hashed_with_a_warning() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        for (name, text) in
            [("short", "0123"), ("twice", &*format!("md5{MD5}")), ("empty", "x'y\\")]
        {
            bed.spec.role(name, Some(text));
        }
        compute.apply(&bed).await;
        for name in ["short", "twice", "empty"] {
            let stored = password(&compute, name).await;
            assert!(stored.starts_with("SCRAM-SHA-256$4096:"), "{name} {stored}");
            let warning = format!("encrypted_password of role \"{name}\" is neither");
            compute.assert_logged(&warning, 1).await;
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
