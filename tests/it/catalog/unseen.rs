//! What the shared catalogs do not show is looked at once for each database and process, in the
//! background, or at once where that is asked for (05 §7.9b).

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::{Compute, client};
use crate::support::server::on_every_server;

const OWNER: &str = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'";
/// As a superuser did by hand, or older software.
const TAKE: &str = "ALTER SCHEMA public OWNER TO cloud_admin";

async fn owner(compute: &Compute) -> String {
    let session = compute.session_in("store").await;
    session.query_one(OWNER, &[]).await.unwrap().get(0)
}

async fn take(compute: &Compute) {
    compute.session_in("store").await.batch_execute(TAKE).await.unwrap();
}

/// A database that looks from outside as an apply leaves it, and that this process has not seen.
async fn with_database(bed: &mut Bed) -> Compute {
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    let system = compute.sql().await;
    for sql in [
        "CREATE ROLE neon_superuser NOLOGIN",
        "CREATE ROLE ann LOGIN",
        "CREATE DATABASE store OWNER ann",
    ] {
        system.batch_execute(sql).await.unwrap();
    }
    take(&compute).await;
    let session = compute.session_in("store").await;
    for kind in ["TABLES", "SEQUENCES"] {
        let sql = format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO neon_superuser \
             WITH GRANT OPTION"
        );
        session.batch_execute(&sql).await.unwrap();
    }
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", None).database("store", "ann");
    compute
}

async fn applied(compute: &Compute, body: &Value) -> String {
    let (code, answer) = compute.post("/configure", Some(body)).await;
    assert_eq!(code.as_u16(), 200, "{answer}");
    answer["extra"]["apply_report"]["operations"].to_string()
}

async fn public_goes_to_the_owner(server: Server) {
    let major = server.major;
    let mut bed = Bed::new(server).await;
    let mut compute = with_database(&mut bed).await;
    let body = bed.configure_body();
    let operations = applied(&compute, &body).await;
    until("public belongs to the owner", || async { owner(&compute).await == "ann" }).await;
    // From 14 the owner shows outside.
    assert_eq!(operations.contains("change_owner"), major == 14, "{operations}");
    if major > 14 {
        compute.wait_for_log("in database \"store\": ").await;
    }

    // Once for each process, and at once where that is asked for.
    take(&compute).await;
    let operations = applied(&compute, &body).await;
    assert_eq!(operations.contains("change_owner"), major == 14, "{operations}");
    take(&compute).await;
    let mut asking = body.clone();
    asking["force_catalog_check"] = json!(true);
    let operations = applied(&compute, &asking).await;
    assert!(operations.contains("change_owner"), "{operations}");
    assert_eq!(owner(&compute).await, "ann");
    assert!(!applied(&compute, &asking).await.contains("change_owner"), "nothing is left to do");

    by_the_client(&bed, &compute).await;
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_nothing_left(&bed);
}

async fn by_the_client(bed: &Bed, compute: &Compute) {
    let file = bed.write("new.json", &bed.spec.config()).display().to_string();
    let url = compute.external.clone();
    let run = async |file: &str| client(&["configure", file, "--full", "--url", &url]).await;
    take(compute).await;
    let ran = run(&file).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("running"), "{}", ran.stdout);
    assert_eq!(owner(compute).await, "ann");

    let mut bad = bed.spec.config();
    bad["spec"]["cluster"]["settings"] =
        json!([{"name": "work_mem", "value": "lots", "vartype": "string"}]);
    let ran = run(&bed.write("bad.json", &bad).display().to_string()).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("answered 400") && ran.stderr.contains("work_mem"),
        "{}",
        ran.stderr
    );
    for (text, why) in [("{", "EOF"), ("[]", "a JSON object is needed")] {
        let file = bed.write_text("odd.json", text).display().to_string();
        let ran = run(&file).await;
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains("odd.json") && ran.stderr.contains(why), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn schema_public_goes_to_the_owner_of_the_database() {
    on_every_server(public_goes_to_the_owner).await;
}
