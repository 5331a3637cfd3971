//! Clients that programs generate from the description of the API, in Python and in TypeScript,
//! against a compute. A warning of a generator means that a part is missing in its client.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, EdKey};
use crate::support::process::Compute;
use crate::support::server::on_one_server_with;

/// Where `deploy/prepare --tests` puts the generators.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/openapi-python-client");
const TYPESCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/openapi-typescript");
/// The programs that use the clients.
const CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// The limit of one program; a busy machine needs a minute.
const LIMIT: Duration = Duration::from_secs(300);

/// The data that the programs look at; the start has made the rest.
const CATALOG: &str = "CREATE ROLE authenticated LOGIN; CREATE SCHEMA auth";

/// Runs a program in a folder; it must succeed. Returns what it says.
async fn run(folder: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().copied()).current_dir(folder);
    command.env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("it takes too long");
    let output = output
        .unwrap_or_else(|error| panic!("{program}: {error}; deploy/prepare --tests installs it"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}\n{said}", output.status);
    said
}

/// A compute, and what the programs need: addresses, a token, a configuration that fails in part.
async fn started(bed: &mut Bed) -> (Compute, [(&'static str, String); 4]) {
    let key = EdKey::new();
    bed.spec.jwks = json!({"keys": [key.jwk()]});
    bed.spec.set("shared_preload_libraries", "pg_stat_statements");
    bed.spec.skip_pg_catalog_updates = false;
    let token = key.sign(&json!({"compute_id": "c1"}));
    let mut compute = bed.start();
    compute.authorize(&token);
    compute.wait_for("running").await;
    compute.sql().await.batch_execute(CATALOG).await.unwrap();
    // Only the server knows that the last name is reserved.
    bed.spec.role("authenticated", None).role("someone", None).role("pg_mine", None);
    let configuration = bed.configure_body().to_string();
    bed.spec.roles.clear();
    let env = [
        ("EXTERNAL", compute.external.clone()),
        ("INTERNAL", compute.internal.clone()),
        ("TOKEN", token),
        ("CONFIGURATION", configuration),
    ];
    (compute, env)
}

/// Writes the description that the compute serves, and returns its path.
async fn description(bed: &Bed, compute: &Compute) -> String {
    let (code, document) = compute.get("/openapi.json").await;
    assert_eq!(code, 200);
    bed.write("openapi.json", &document).display().to_string()
}

#[tokio::test]
#[ignore = "slow: .ci/run runs it"]
async fn in_python() {
    // The schema dump of a database needs it.
    on_one_server_with("pg_dump", |server| async move {
        let mut bed = Bed::new(server).await;
        let (mut compute, env) = started(&mut bed).await;
        let mut env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("{PYTHON}/bin:{}", std::env::var("PATH").unwrap());
        env.extend([("PATH", path.as_str()), ("PYTHONPATH", PYTHON)]);
        let description = description(&bed, &compute).await;
        let generate = [
            "-m",
            "openapi_python_client",
            "generate",
            "--path",
            &description,
            "--meta",
            "none",
            "--output-path",
            "compute",
            "--fail-on-warning",
        ];
        let said = run(bed.dir(), "python3", &generate, &env).await;
        assert!(!said.to_lowercase().contains("warning"), "{said}");

        let both = format!("{PYTHON}:{}", bed.dir().display());
        env.retain(|(name, _)| *name != "PYTHONPATH");
        env.push(("PYTHONPATH", &both));
        let said = run(bed.dir(), "python3", &[&format!("{CALLS}/calls.py")], &env).await;
        assert!(said.ends_with("done\n"), "{said}");
        compute.stop(Signal::SIGTERM).await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
#[ignore = "slow: .ci/run runs it"]
async fn in_typescript() {
    on_one_server_with("pg_dump", |server| async move {
        let mut bed = Bed::new(server).await;
        let (mut compute, env) = started(&mut bed).await;
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let description = description(&bed, &compute).await;
        let tool = |name: &str| format!("{TYPESCRIPT}/node_modules/.bin/{name}");
        // A folder with the packages, as a program that uses the client has it.
        let folder = bed.dir().join("typescript");
        std::fs::create_dir(&folder).unwrap();
        for name in ["calls.ts", "package.json", "tsconfig.json"] {
            std::fs::copy(format!("{CALLS}/{name}"), folder.join(name)).unwrap();
        }
        let modules = folder.join("node_modules");
        std::os::unix::fs::symlink(format!("{TYPESCRIPT}/node_modules"), modules).unwrap();

        let generate = [description.as_str(), "--output", "schema.d.ts"];
        let said = run(&folder, &tool("openapi-typescript"), &generate, &env).await;
        assert!(!said.to_lowercase().contains("warn"), "{said}");
        run(&folder, &tool("tsc"), &["--project", "."], &env).await;
        let said = run(&folder, "node", &["out/calls.js"], &env).await;
        assert!(said.ends_with("done\n"), "{said}");
        compute.stop(Signal::SIGTERM).await;
        assert_nothing_left(&bed);
    })
    .await;
}
