//! Unusable documents: as a file they end the process before it changes anything, as the body of
//! `/configure` they change nothing.

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, Marked, try_start};
use crate::support::server::on_one_server;

/// A document and the expected error.
struct Case {
    document: String,
    /// Status of the answer of `/configure`; a file leads to exit code 1 in any case.
    code: StatusCode,
    /// Part of the message.
    text: String,
}

/// The good document with one change.
fn case(bed: &Bed, code: u16, text: &str, change: impl FnOnce(&mut Value)) -> Case {
    let mut document = bed.spec.config();
    change(&mut document);
    let code = StatusCode::from_u16(code).unwrap();
    Case { document: document.to_string(), code, text: text.to_owned() }
}

/// Takes out the member at the end of a JSON pointer.
fn remove(document: &mut Value, pointer: &str) {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    assert!(parent.remove(member).is_some(), "{pointer}");
}

fn set(pointer: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |document| *document.pointer_mut(pointer).unwrap() = value
}

/// A document with one instance of every type that has required members.
fn full(bed: &mut Bed) {
    bed.spec
        .role("ann", None)
        .database("store", "ann")
        .member("delta_operations", json!([{"action": "delete_db", "name": "old"}]));
}

fn missing_members(bed: &Bed) -> Vec<Case> {
    [
        ("/compute_ctl_config", ""),
        ("/compute_ctl_config/jwks", "compute_ctl_config: "),
        ("/compute_ctl_config/jwks/keys", "compute_ctl_config.jwks: "),
        ("/spec/format_version", "spec: "),
        ("/spec/cluster", "spec: "),
        ("/spec/suspend_timeout_seconds", "spec: "),
        ("/spec/cluster/roles", "spec.cluster: "),
        ("/spec/cluster/databases", "spec.cluster: "),
        ("/spec/cluster/roles/0/name", "spec.cluster.roles[0]: "),
        ("/spec/cluster/databases/0/name", "spec.cluster.databases[0]: "),
        ("/spec/cluster/databases/0/owner", "spec.cluster.databases[0]: "),
        ("/spec/cluster/settings/0/name", "spec.cluster.settings[0]: "),
        ("/spec/cluster/settings/0/vartype", "spec.cluster.settings[0]: "),
        ("/spec/delta_operations/0/action", "spec.delta_operations[0]: "),
        ("/spec/delta_operations/0/name", "spec.delta_operations[0]: "),
    ]
    .into_iter()
    .map(|(pointer, path)| {
        let member = pointer.rsplit('/').next().unwrap();
        let text = format!("{path}missing field `{member}`");
        case(bed, 422, &text, |document| remove(document, pointer))
    })
    .collect()
}

fn bad_members(bed: &Bed) -> Vec<Case> {
    let bad = |text: &str, pointer, value| case(bed, 422, text, set(pointer, value));
    let short_id = "51b0c7e2a94d4c06b3f7d1e8a2640f9";
    vec![
        bad("spec.tenant_id: ", "/spec/tenant_id", json!(short_id)),
        bad("spec.timeline_id: ", "/spec/timeline_id", json!(format!("{short_id}-"))),
        bad("spec.mode", "/spec/mode", json!({"Static": "0/"})),
        bad("LsnParseError", "/spec/mode", json!({"Static": "0/123456789"})),
        bad("spec.mode", "/spec/mode", json!({"Static": 1})),
        bad("spec.mode: ", "/spec/mode", json!("primary")),
        bad("spec.cluster.roles[0].name: ", "/spec/cluster/roles/0/name", json!(7)),
        bad("spec.cluster.settings: ", "/spec/cluster/settings", json!({"port": 1})),
        bad("spec.suspend_timeout_seconds: ", "/spec/suspend_timeout_seconds", json!("x")),
        bad("spec.safekeeper_connstrings: ", "/spec/safekeeper_connstrings", Value::Null),
    ]
}

/// Keys of another shape; one that is well formed and cannot be used is skipped (`http::auth`).
fn bad_keys(bed: &Bed) -> Vec<Case> {
    let bad = |text: &str, key: Value| {
        let text = format!("compute_ctl_config.jwks.keys[1]{text}");
        let keys = json!([{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, key]);
        case(bed, 422, &text, set("/compute_ctl_config/jwks/keys", keys))
    };
    vec![
        bad(": missing field `kty`", json!({"crv": "Ed25519", "x": "AA"})),
        bad(": missing field `x`", json!({"kty": "OKP", "crv": "Ed25519"})),
        bad(": missing field `e`", json!({"kty": "RSA", "n": "AQAB"})),
        bad(".kty: ", json!({"kty": "AKP"})),
        bad(".crv: ", json!({"kty": "OKP", "crv": "Ed448", "x": "AA"})),
        bad(".alg: ", json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": "ES512"})),
        bad(".x: ", json!({"kty": "OKP", "crv": "Ed25519", "x": ["AA"]})),
        bad(": invalid type", json!("AA")),
    ]
}

fn bad_specs(bed: &Bed) -> Vec<Case> {
    let bad = |text: &str, change: fn(&mut Value)| case(bed, 400, text, change);
    vec![
        bad("pageserver connection information should be provided", |document| {
            remove(document, "/spec/pageserver_connstring");
        }),
        bad("safekeeper connstrings should be provided", |document| {
            remove(document, "/spec/safekeeper_connstrings");
        }),
        bad("tenant id should be provided", |document| remove(document, "/spec/tenant_id")),
        bad("timeline id should be provided", |document| remove(document, "/spec/timeline_id")),
        bad("duplicate entry in safekeeper_connstrings: a:1", |document| {
            document["spec"]["safekeeper_connstrings"] = json!(["a:1", "b:1", "a:1"]);
        }),
        bad("2 shards but no stripe_size", |document| {
            document["spec"]["pageserver_connstring"] =
                json!("postgresql://no_user@a:1,postgresql://no_user@b:1");
        }),
        bad("invalid tenant id", |document| {
            remove(document, "/spec/tenant_id");
            let setting = json!({
                "name": "neon.tenant_id", "value": "51b0c7e2a94d4c06b3f7d1e8a2640f9",
                "vartype": "string"
            });
            document["spec"]["cluster"]["settings"].as_array_mut().unwrap().push(setting);
        }),
    ]
}

fn no_json(bed: &Bed) -> Vec<Case> {
    let good = bed.spec.config().to_string();
    let (half, _) = good.split_at(good.len() / 2);
    [
        (String::new(), "line 1 column 0"),
        (half.to_owned(), "line 1 column"),
        (format!("{good} x"), "trailing characters"),
        ("{\"spec\": {\n\"tenant_id\": nonsense}}".to_owned(), "line 2 column"),
    ]
    .into_iter()
    .map(|(document, text)| Case { document, code: StatusCode::BAD_REQUEST, text: text.to_owned() })
    .collect()
}

fn all(bed: &Bed) -> Vec<Case> {
    [missing_members(bed), bad_members(bed), bad_keys(bed), bad_specs(bed), no_json(bed)]
        .into_iter()
        .flatten()
        .collect()
}

#[tokio::test]
async fn a_bad_config_file_ends_the_process() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        full(&mut bed);
        let marked = Marked::put(&bed);
        for Case { document, text, .. } in all(&bed) {
            let path = bed.write_text("config.json", &document).display().to_string();
            let mut line = bed.base_args();
            line.extend(["-i", "c1", "-c", &path].map(str::to_owned));
            let refusal = try_start(&bed, &line, &[]).await;
            assert!(refusal.error().contains(&text), "no {text:?} in\n{}", refusal.stderr);
        }
        // Paths in a bare spec begin at its own top.
        let mut spec = bed.spec.spec();
        remove(&mut spec, "/cluster/roles/0/name");
        let path = bed.write("spec.json", &spec).display().to_string();
        let mut line = bed.base_args();
        line.extend(["-S", &path].map(str::to_owned));
        let refusal = try_start(&bed, &line, &[]).await;
        let text = format!("{path}: cluster.roles[0]: missing field `name`");
        assert!(refusal.error().contains(&text), "{}", refusal.stderr);

        marked.assert_untouched();
        assert_eq!(bed.pageserver.journal().connections(), 0);
        assert_eq!(bed.safekeepers[0].journal().connections(), 0);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_bad_body_leaves_an_empty_compute_as_it_is() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        full(&mut bed);
        let marked = Marked::put(&bed);
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        for Case { document, code, text } in all(&bed) {
            let (answered, error) = post_text(&compute, document).await;
            assert_eq!(answered, code, "{text}: {error}");
            assert!(error["error"].as_str().unwrap().contains(&text), "no {text:?} in {error}");
            let (_, status) = compute.get("/status").await;
            assert_eq!(status["status"], "empty", "{text}");
            assert_eq!((&status["tenant"], &status["error"]), (&Value::Null, &Value::Null));
        }
        // Only a body must have a spec.
        let error = case(&bed, 422, "missing field `spec`", |document| remove(document, "/spec"));
        let (answered, answer) = post_text(&compute, error.document).await;
        assert_eq!(answered, error.code, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(&error.text), "{answer}");
        marked.assert_untouched();
        assert_eq!(bed.pageserver.journal().connections(), 0);

        // The compute still accepts a good body.
        bed.spec.member("delta_operations", json!([]));
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("running")), "{answer}");
        marked.assert_wiped();
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

async fn post_text(compute: &Compute, body: String) -> (StatusCode, Value) {
    let request = compute.http.post(format!("{}/configure", compute.external));
    let response =
        request.header("content-type", "application/json").body(body).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Unknown members are accepted, and named once in one line.
#[tokio::test]
async fn unknown_members_are_listed_once() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut config = bed.spec.config();
        let new = json!({"a": [1]});
        config["x_top"] = new.clone();
        config["compute_ctl_config"]["x_ctl"] = new.clone();
        config["spec"]["x_spec"] = new.clone();
        config["spec"]["cluster"]["x_cluster"] = new.clone();
        config["spec"]["cluster"]["settings"][0]["x_setting"] = new.clone();
        let paths = [
            "x_top",
            "compute_ctl_config.x_ctl",
            "spec.x_spec",
            "spec.cluster.x_cluster",
            "spec.cluster.settings[0].x_setting",
        ];
        let path = bed.write("config.json", &config).display().to_string();
        let mut compute = bed.start_with(&["-i", "c1", "-c", &path]);
        compute.wait_for("running").await;
        let listed = |log: &str| -> Vec<String> {
            log.lines().filter(|line| line.contains("x_spec")).map(str::to_owned).collect()
        };
        let first = listed(&compute.settled_log().await);
        assert_eq!(first.len(), 1, "{}", compute.log());
        assert!(paths.iter().all(|path| first[0].contains(path)), "{first:?}");
        // Members that are known to be sent and not read are not named.
        assert!(!first[0].contains("operation_uuid") && !first[0].contains("delta"), "{first:?}");

        let (code, answer) = compute.post("/configure", Some(&config)).await;
        assert_eq!(code, 200, "{answer}");
        let both = listed(&compute.settled_log().await);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(paths.iter().all(|path| both[1].contains(path)), "{both:?}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
