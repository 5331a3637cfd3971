//! A spec that is refused before anything was changed leaves the compute as it was: the next good
//! one is applied, as if the bad one had not come (01 §13.2, 03 §6.1).

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// A `/configure` that must be refused with 400. Returns the error text.
async fn refused(compute: &Compute, body: &Value, status: &str) -> String {
    let (code, answer) = compute.post("/configure", Some(body)).await;
    assert_eq!(code.as_u16(), 400, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    let (_, document) = compute.get("/status").await;
    assert_eq!((&document["status"], &document["error"]), (&json!(status), &Value::Null));
    let failure = &document["extra"]["last_failure"];
    assert_eq!(failure["phase"], "check_configuration", "{document}");
    assert_eq!(failure["operation"], body["spec"]["operation_uuid"], "{document}");
    assert!(failure["at"].is_string(), "{document}");
    answer["error"].as_str().unwrap().to_owned()
}

fn with_setting(bed: &Bed, name: &str, value: &str) -> Value {
    let mut body = bed.configure_body();
    body["spec"]["operation_uuid"] = json!("bad");
    let settings = body["spec"]["cluster"]["settings"].as_array_mut().unwrap();
    settings.push(json!({"name": name, "value": value, "vartype": "string"}));
    body
}

/// Documents with a name or an option that no cluster takes.
fn with_bad_names(bed: &Bed) -> Vec<(&'static str, Value)> {
    let role = |role: Value| json!({"roles": [role]});
    let database = |name: &str, owner: &str| json!({"databases": [{"name": name, "owner": owner}]});
    let long = "é".repeat(32);
    let option = json!([{"name": "LOGIN; DROP ROLE x", "value": null, "vartype": "bool"}]);
    let mut bodies = Vec::new();
    for (word, cluster, deltas) in [
        ("\"\" cannot be the name of a role", role(json!({"name": ""})), json!([])),
        ("cannot be the name of a role", role(json!({"name": "a\0b"})), json!([])),
        ("has 64 bytes", role(json!({"name": long})), json!([])),
        ("not one piece of SQL", role(json!({"name": "r", "options": option})), json!([])),
        ("cannot be the name of a database", database("", "cloud_admin"), json!([])),
        ("has 64 bytes", database(&long, "cloud_admin"), json!([])),
        ("cannot be the name of a role", database("d", ""), json!([])),
        ("has no new_name", json!({}), json!([{"action": "rename_db", "name": "d"}])),
        (
            "has 64 bytes",
            json!({}),
            json!([{"action": "rename_role", "name": "r", "new_name": long}]),
        ),
    ] {
        let mut body = bed.configure_body();
        body["spec"]["operation_uuid"] = json!("bad");
        body["spec"]["skip_pg_catalog_updates"] = json!(false);
        body["spec"]["delta_operations"] = deltas;
        for (member, value) in cluster.as_object().unwrap() {
            body["spec"]["cluster"][member] = value.clone();
        }
        bodies.push((word, body));
    }
    bodies
}

#[tokio::test]
async fn a_running_compute_keeps_running() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let conf = bed.pgdata_text("postgresql.conf");
        let reloads = compute.count_in_log("received SIGHUP");
        for (name, value) in [("work_memory", "1MB"), ("work_mem", "lots"), ("port", "x")] {
            let text = refused(&compute, &with_setting(&bed, name, value), "running").await;
            // In Postgres' own words.
            assert!(text.contains(name) && text.contains("phase check_configuration"), "{text}");
        }
        let mut body = bed.configure_body();
        body["spec"]["operation_uuid"] = json!("bad");
        body["spec"]["safekeeper_connstrings"] = json!(["a:1", "a:1"]);
        let text = refused(&compute, &body, "running").await;
        assert!(text.contains("safekeeper"), "{text}");
        for (word, body) in with_bad_names(&bed) {
            let text = refused(&compute, &body, "running").await;
            assert!(text.contains(word), "{text}");
        }
        // A document of another shape, and none at all.
        let (code, _) = compute.post("/configure", Some(&json!({"spec": 7}))).await;
        assert_eq!(code.as_u16(), 422);
        let failure = compute.get("/status").await.1["extra"]["last_failure"].take();
        assert!(failure["error"].as_str().unwrap().contains("spec: "), "{failure}");
        assert!(failure["operation"].is_null(), "{failure}");

        assert_eq!(bed.pgdata_text("postgresql.conf"), conf);
        assert_eq!(compute.count_in_log("received SIGHUP"), reloads);
        bed.spec.typed("work_mem", "7168", "integer");
        let (code, status) = compute.configure(&bed).await;
        assert_eq!((code.as_u16(), &status["status"]), (200, &json!("running")), "{status}");
        assert_eq!(compute.sql_text("SHOW work_mem").await, "7MB");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_empty_compute_stays_empty() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let mut body = with_setting(&bed, "shared_preload_libraries", "neon");
        let text = refused(&compute, &body, "empty").await;
        assert!(text.contains("load `neon`"), "{text}");
        body = with_setting(&bed, "work_mem", "a's");
        let settings = body["spec"]["cluster"]["settings"].as_array_mut().unwrap();
        settings.last_mut().unwrap()["vartype"] = json!("integer");
        let text = refused(&compute, &body, "empty").await;
        assert!(text.contains("setting work_mem"), "{text}");
        for (word, body) in with_bad_names(&bed) {
            let text = refused(&compute, &body, "empty").await;
            assert!(text.contains(word), "{text}");
        }
        let (_, status) = compute.get("/status").await;
        assert_eq!((&status["tenant"], &status["timeline"]), (&Value::Null, &Value::Null));

        let (code, status) = compute.configure(&bed).await;
        assert_eq!((code.as_u16(), &status["status"]), (200, &json!("running")), "{status}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A refresh that fetched a bad document is tried again; the spec before it stays in force.
#[tokio::test]
async fn a_refresh_leaves_the_old_one_in_force() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("work_mem", "5MB", "integer");
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let conf = bed.pgdata_text("postgresql.conf");
        bed.write("config.json", &with_setting(&bed, "work_memory", "1MB"));
        compute.refresh().await;
        compute.wait_for_log("could not refresh the configuration").await;
        let failure = compute.get("/status").await.1["extra"]["last_failure"].take();
        assert!(failure["error"].as_str().unwrap().contains("work_memory"), "{failure}");
        assert_eq!(bed.pgdata_text("postgresql.conf"), conf);
        // Nothing was changed, so the good document again has nothing to apply.
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        compute.wait_for("running").await;
        assert_eq!(compute.count_in_log("received SIGHUP"), 0, "{}", compute.log());
        assert_eq!(compute.sql_text("SHOW work_mem").await, "5MB");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres would refuse the whole file because of the first one, and the statement because of the
/// second.
#[tokio::test]
async fn what_has_no_value_is_left_out() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.typed("work_mem", "7MB", "integer").typed("wal_level", " ", "enum");
        let mut config = bed.spec.config();
        let no_value = json!({"name": "WORK_MEM", "value": null, "vartype": "integer"});
        config["spec"]["cluster"]["settings"].as_array_mut().unwrap().push(no_value);
        config["spec"]["cluster"]["roles"] = json!([{"name": "ann", "options": [
            {"name": "VALID UNTIL", "vartype": "string"},
            {"name": "CONNECTION LIMIT 3", "value": null, "vartype": "integer"}]}]);
        let file = bed.write("odd.json", &config).display().to_string();
        let mut args = bed.base_args();
        args.extend(["--compute-id", "c1", "--config", &file].map(str::to_owned));
        let mut compute = Compute::spawn(&bed, &args, &[]);
        bed.wait_running(&mut compute).await;
        assert_eq!(compute.sql_text("SHOW work_mem").await, "7MB");
        let role = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'ann'";
        assert_eq!(compute.sql_text(role).await, "3");
        for what in ["setting WORK_MEM", "setting wal_level", "option \"VALID UNTIL\" of role"] {
            let log = compute.log();
            let line = log.lines().find(|line| line.contains(what) && line.contains("left out"));
            assert!(line.is_some_and(|line| line.contains("WARN")), "{what}\n{log}");
        }
        let (code, body) = compute.post("/configure", Some(&config)).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
