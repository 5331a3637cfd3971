//! Specs with a `postgresql.conf` that cannot be written, or not be read by Postgres: refused with
//! the name of the setting before anything is changed.

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Marked, try_start};
use crate::support::server::on_one_server;

/// A change that makes a good spec bad.
type Spoil = fn(&mut Value);

/// The fault, and the text that the message must contain.
fn bad_specs() -> [(Spoil, &'static str); 7] {
    fn setting(spec: &mut Value, name: &str, value: &str, vartype: &str) {
        let setting = json!({"name": name, "value": value, "vartype": vartype});
        spec["cluster"]["settings"].as_array_mut().unwrap().push(setting);
    }
    [
        (|spec| setting(spec, "work mem", "1", "integer"), "\"work mem\" in cluster.settings"),
        (|spec| setting(spec, "a\nport", "1", "integer"), "\"a\\nport\" in cluster.settings"),
        (|spec| setting(spec, "app.x", "planted\0", "string"), "setting app.x holds a NUL byte"),
        (
            |spec| setting(spec, "work_mem", "1\nport = planted", "integer"),
            "setting work_mem holds a control character",
        ),
        (
            |spec| spec["cluster"]["postgresql_conf"] = json!("a.b=1\napp.x = 'planted\nfsync=off"),
            "cluster.postgresql_conf, line 2 (setting app.x): a quote is not closed",
        ),
        (
            |spec| spec["cluster"]["postgresql_conf"] = json!("a.b=1\0"),
            "cluster.postgresql_conf, line 1 (setting a.b): it holds a NUL byte",
        ),
        (|spec| spec["endpoint_id"] = json!("ep\0"), "setting neon.endpoint_id holds a NUL byte"),
    ]
}

#[tokio::test]
async fn at_start_before_the_data_directory_is_touched() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        for (spoil, text) in bad_specs() {
            let mut config = bed.spec.config();
            spoil(&mut config["spec"]);
            let config = bed.write("bad.json", &config).display().to_string();
            let mut args = bed.base_args();
            args.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
            let refusal = try_start(&bed, &args, &[]).await;
            assert!(refusal.error().contains(text), "{text}\n{refusal:?}");
            assert!(!refusal.stderr.contains("planted"), "{refusal:?}");
            marked.assert_untouched();
        }
        assert_eq!(bed.pageserver.journal().commands().len(), 0);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn by_configure_while_the_old_one_stays_in_force() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("app.kept", "old");
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let [(spoil, text), ..] = bad_specs();
        let mut body = bed.configure_body();
        spoil(&mut body["spec"]);
        let (code, answer) = compute.post("/configure", Some(&body)).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(text), "{answer}");
        assert_eq!(compute.get("/status").await.1["status"], "empty");

        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        let before = bed.pgdata_text("postgresql.conf");
        for (spoil, text) in bad_specs() {
            let mut body = bed.configure_body();
            let settings = body["spec"]["cluster"]["settings"].as_array_mut().unwrap();
            settings.push(json!({"name": "app.kept", "value": "new", "vartype": "string"}));
            spoil(&mut body["spec"]);
            let (code, answer) = compute.post("/configure", Some(&body)).await;
            assert_eq!(code, StatusCode::BAD_REQUEST, "{answer}");
            let error = answer["error"].as_str().unwrap();
            assert!(error.contains(text) && !error.contains("planted"), "{error}");
            let (_, status) = compute.get("/status").await;
            assert_eq!((&status["status"], &status["error"]), (&json!("running"), &Value::Null));
        }
        assert_eq!(bed.pgdata_text("postgresql.conf"), before);
        assert_eq!(compute.sql_text("SHOW app.kept").await, "old");

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
