//! `/extensions`: created, updated, or left alone (03 §8.2, T18).

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

async fn install(compute: &Compute, database: &str, version: &str) -> (u16, Value) {
    let body = json!({"extension": "citext", "database": database, "version": version});
    let (code, answer) = compute.post_internal("/extensions", &body).await;
    (code.as_u16(), answer)
}

#[tokio::test]
async fn create_update_repeat() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let installed = "SELECT extversion || ' ' || extnamespace::regnamespace || ' ' || \
                         extowner::regrole FROM pg_extension WHERE extname = 'citext'";
        for version in ["1.5", "1.6", "1.6"] {
            let answer = json!({"extension": "citext", "version": version});
            assert_eq!(install(&compute, "postgres", version).await, (201, answer));
            let wanted = format!("{version} public cloud_admin");
            assert_eq!(compute.sql_text(installed).await, wanted);
        }
        let (code, body) = install(&compute, "postgres", "9\"; --").await;
        assert_eq!(code, 500);
        let error = body["error"].as_str().unwrap();
        let step = "failed to install extension: Failed to execute query: \
                    ALTER EXTENSION \"citext\" UPDATE TO \"9\"\"; --\"";
        assert!(error.starts_with(step), "{error}");
        let (code, body) = install(&compute, "no such database", "1.6").await;
        assert_eq!(code, 500);
        let error = body["error"].as_str().unwrap();
        let step = "failed to install extension: Failed to connect to the database";
        assert!(error.starts_with(step), "{error}");

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The body is checked first, then the state (03 §8.2).
#[tokio::test]
async fn order_of_the_checks() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let wrong = json!({"error": "invalid compute status: empty"});
        assert_eq!(install(&compute, "postgres", "1.6").await, (412, wrong));
        let url = format!("{}/extensions", compute.internal);
        for (kind, body, code, text) in [
            ("text/plain", "{}", 415, "expected request with `content-type: application/json`"),
            ("application/json", "{", 400, "failed to parse the request body as json: "),
            (
                "application/json",
                r#"{"extension": "x", "database": 7}"#,
                422,
                "failed to deserialize the json body into the target type: database: ",
            ),
        ] {
            let request = compute.http.post(&url).header("content-type", kind).body(body);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), code);
            let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert!(answer["error"].as_str().unwrap().starts_with(text), "{answer}");
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// All other attributes come from the control file of the extension.
#[tokio::test]
async fn what_the_program_looks_after_is_refused() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute
            .run(
                "CREATE SCHEMA IF NOT EXISTS neon_migration;
                CREATE EXTENSION citext SCHEMA neon_migration VERSION '1.5'",
            )
            .await;
        let (code, body) = install(&compute, "postgres", "1.6").await;
        let error = body["error"].as_str().unwrap();
        assert!(code == 403 && error.starts_with("extension \"citext\" is in schema"), "{body}");
        let version = "SELECT extversion FROM pg_extension WHERE extname = 'citext'";
        assert_eq!(compute.sql_text(version).await, "1.5");

        for (extension, version, wanted) in [("neon", "1.6", 403), ("plpgsql", "1.0", 201)] {
            let body = json!({"extension": extension, "database": "postgres", "version": version});
            let (code, answer) = compute.post_internal("/extensions", &body).await;
            assert_eq!(code.as_u16(), wanted, "{answer}");
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
