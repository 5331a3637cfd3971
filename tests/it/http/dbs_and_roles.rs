//! `/dbs_and_roles`: the whole catalog, in any state (03 §5.4, T16).

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

fn named<'a>(objects: &'a Value, name: &str) -> &'a Value {
    let found = objects.as_array().unwrap().iter().find(|object| object["name"] == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {objects}"))
}

#[tokio::test]
async fn names_owners_flags_and_verifiers() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let (salt, key) = ("A".repeat(22), "A".repeat(43));
        let verifier = format!("SCRAM-SHA-256$4096:{salt}==${key}=:{key}=");
        let sql = compute.sql().await;
        for statement in [
            &*format!("CREATE ROLE \"it's \"\"odd\"\"\" LOGIN PASSWORD '{verifier}'"),
            "CREATE DATABASE \"a=b 🦀\" OWNER \"it's \"\"odd\"\"\" ALLOW_CONNECTIONS false",
            "CREATE DATABASE half_dropped",
            "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_dropped'",
        ] {
            sql.batch_execute(statement).await.unwrap();
        }
        let (code, objects) = compute.get("/dbs_and_roles").await;
        assert_eq!(code, 200, "{objects}");
        assert_eq!(
            *named(&objects["roles"], "it's \"odd\""),
            json!({"name": "it's \"odd\"", "encrypted_password": verifier, "options": null})
        );
        let predefined = named(&objects["roles"], "pg_read_all_data");
        assert_eq!(predefined["encrypted_password"], Value::Null);
        assert_eq!(
            *named(&objects["databases"], "a=b 🦀"),
            json!({
                "name": "a=b 🦀", "owner": "it's \"odd\"", "options": null,
                "restrict_conn": true, "invalid": false
            })
        );
        assert_eq!(named(&objects["databases"], "half_dropped")["invalid"], true);
        assert_eq!(named(&objects["databases"], "template0")["restrict_conn"], true);
        assert_eq!(named(&objects["databases"], "postgres")["owner"], "cloud_admin");
        assert!(!compute.log().contains(&verifier), "a verifier is in the log");

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn without_postgres() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let (code, body) = compute.get("/dbs_and_roles").await;
        assert_eq!(code, 500);
        let error = "error connecting to server: Connection refused (os error 111)";
        assert_eq!(body, json!({"error": error}));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
