//! Schemathesis against the description that both servers serve, with requests that match it and
//! requests that do not.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::process::Command;

use super::autoscaling_metrics::Communicator;
use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server_with;

/// Where `deploy/prepare --tests` puts the program.
const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/schemathesis");
/// Rules with exceptions to the checks, each with its reason.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/rules.toml");
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/hooks.py");
/// The limit of one run; a busy machine needs minutes.
const LIMIT: Duration = Duration::from_secs(600);

/// The data that the routes work on.
const CATALOG: &str = "CREATE EXTENSION pg_stat_statements; \
    CREATE TABLE public.health_check (id int4 PRIMARY KEY, updated_at timestamptz); \
    CREATE ROLE authenticated LOGIN; CREATE SCHEMA auth";

/// The answer of the communicator.
const METRICS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/text\r\n\
    content-length: 11\r\n\r\nlfc_hits 7\n";

/// A key of the configuration and a token of an administrator.
fn key_and_token() -> (Value, String) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let x = encode(key.public_key().as_ref());
    let payload = json!({"scope": "compute_ctl:admin", "aud": ["compute"]}).to_string();
    let message = format!("{}.{}", encode(br#"{"alg":"EdDSA"}"#), encode(payload.as_bytes()));
    let signature = encode(key.sign(message.as_bytes()).as_ref());
    (json!({"kty": "OKP", "crv": "Ed25519", "x": x}), format!("{message}.{signature}"))
}

/// One run; it must find nothing.
async fn run(bed: &Bed, token: &str, compute: &Compute, server: &str, args: &[&str]) {
    let mut command = Command::new(format!("{PLACE}/bin/schemathesis"));
    command
        .args(["--config-file", RULES, "run"])
        .arg(format!("{server}/openapi.json"))
        .args(["--url", server])
        .args(args)
        .env("PYTHONPATH", PLACE)
        .env("TOKEN", token)
        .env("STATUS", format!("{}/status", compute.external))
        .env("SCHEMATHESIS_HOOKS", HOOKS)
        .env("NO_COLOR", "1")
        .current_dir(bed.dir())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output();
    let output = tokio::time::timeout(LIMIT, output).await.expect("it takes too long");
    let output = output.expect("schemathesis cannot be run, deploy/prepare --tests installs it");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("schemathesis {}\n{said}", args.join(" "));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
}

#[tokio::test]
#[ignore = "slow: .ci/run runs it"]
async fn nothing_is_found() {
    // The schema dump of a database needs it.
    on_one_server_with("pg_dump", |server| async move {
        let mut bed = Bed::new(server).await;
        let (key, token) = key_and_token();
        bed.spec.jwks = json!({"keys": [key]});
        bed.spec.set("shared_preload_libraries", "pg_stat_statements");
        let mut compute = bed.start();
        compute.authorize(&token);
        compute.wait_for("running").await;
        compute.sql().await.batch_execute(CATALOG).await.unwrap();

        let _communicator = Communicator::start(&bed.pgdata(), METRICS);

        let external =
            async |args: &[&str]| run(&bed, &token, &compute, &compute.external, args).await;
        let last = ["--include-operation-id", "terminate"];
        let others = ["--exclude-operation-id", "terminate"];
        external(&[&["--include-tag", "external"], &others[..]].concat()).await;
        run(&bed, &token, &compute, &compute.internal, &["--include-tag", "internal"]).await;
        // The run has changed nothing that it should not; the last refresh may be in progress.
        let (code, status) = compute.get("/status?wait=running&timeout=30s").await;
        assert_eq!(code, 200, "{status}");
        let databases = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
        assert_eq!(compute.sql_text(databases).await, "postgres template0 template1");

        // For the next 30 s the answer is always the same.
        assert_eq!(compute.post("/terminate", None).await.0, 200);
        external(&last).await;
        assert_eq!(compute.get("/status").await.1["status"], "terminated");
        compute.stop(Signal::SIGTERM).await;
        assert_nothing_left(&bed);
    })
    .await;
}
