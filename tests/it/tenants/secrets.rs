//! Secrets stay out of the log and of error texts, also at the most verbose level.

use compute_ctl::dev::pageserver::Fault;
use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, EdKey};
use crate::support::process::{Compute, client_with_env};
use crate::support::server::on_one_server;

/// A part of every secret, so that one search finds any of them.
const MARK: &str = "PLANTED";
const TOKEN: &str = "PLANTED-storage-token";
/// Valid verifiers, so that Postgres stores them unchanged.
const HASH: &str = "SCRAM-SHA-256$4096:PLANTEDA\
                    $PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
                    :PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_HASH: &str = "SCRAM-SHA-256$4096:PLANTEDA\
                          $PLANTEDBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
                          :PLANTEDBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TALKATIVE: [(&str, &str); 1] = [("RUST_LOG", "trace")];

/// A bed whose spec has a token, a password in the pageserver's URL, and a role with a hash.
async fn plant(server: compute_ctl::dev::servers::Server) -> Bed {
    let mut bed = Bed::new(server).await;
    bed.spec.storage_auth_token = Some(TOKEN.to_owned());
    bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
    bed.safekeepers[0].behave(|it| it.password = Some(TOKEN.to_owned()));
    bed.spec.pageserver_connstring =
        bed.pageserver.connstring().replace("no_user@", "no_user:PLANTED-url-password@");
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", Some(HASH)).database("store", "ann");
    bed
}

fn assert_clean(compute: &Compute) {
    let log = compute.log();
    assert!(log.contains(" DEBUG "), "the level is not what the test is about\n{log}");
    let found: Vec<&str> = log.lines().filter(|line| line.contains(MARK)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn a_life_at_trace_level_tells_none() {
    on_one_server(|server| async {
        let mut bed = plant(server).await;
        // Postgres, too, logs as much as it can.
        bed.spec
            .set("log_statement", "all")
            .set("log_min_duration_statement", "0")
            .set("log_duration", "on")
            .set("log_transaction_sample_rate", "1")
            .set("log_min_error_statement", "debug5");
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        let mut compute = bed.start_with_env(&TALKATIVE);
        compute.wait_for("running").await;
        let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'";
        assert_eq!(compute.sql_text(stored).await, HASH, "the planted one did arrive");
        assert_clean(&compute);

        bed.spec.roles.clear();
        bed.spec.role("ann", Some(OTHER_HASH)).role("bob", Some(HASH));
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{answer}");
        assert!(!answer.to_string().contains(MARK), "{answer}");
        assert_clean(&compute);
        assert_eq!(compute.sql_text(stored).await, OTHER_HASH);

        let (code, _) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        assert_clean(&compute);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn failed_starts_tell_none() {
    on_one_server(|server| async {
        let mut bed = plant(server).await;
        bed.pageserver.behave(|it| it.password = Some("another".to_owned()));
        let mut compute = bed.start_with_env(&TALKATIVE);
        compute.wait_for_log("JWT authentication error").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_clean(&compute);

        bed.pageserver.set_fault(Fault::Refuse, None);
        compute = bed.start_with_env(&TALKATIVE);
        compute.wait_for_log("(attempt 2/11)").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_clean(&compute);

        bed.safekeepers[0].behave(|it| it.password = Some("another".to_owned()));
        bed.wrapper.set_mode(SyncMode::Exit(1)).unwrap();
        compute = bed.start_with_env(&TALKATIVE);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("JWT authentication error") && !error.contains(MARK), "{error}");
        compute.dismiss().await;
        assert_clean(&compute);

        // A statement that fails, with a hash in it.
        bed.safekeepers[0].behave(|it| it.password = Some(TOKEN.to_owned()));
        bed.pageserver.clear_faults();
        bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
        bed.wrapper.set_mode(SyncMode::Ok).unwrap();
        bed.spec.set("log_statement", "all").set("log_min_error_statement", "debug5");
        bed.spec.role("pg_reserved", Some(HASH));
        compute = bed.start_with_env(&TALKATIVE);
        let error = compute.wait_for_failure().await;
        assert!(error.contains("pg_reserved") && !error.contains(MARK), "{error}");
        compute.dismiss().await;
        assert_clean(&compute);

        // Unusable input: a permanent failure, and a refused command line.
        bed.spec.pageserver_connstring = "host=a,b port=1,2,3 password=PLANTED".to_owned();
        bed.spec.member("shard_stripe_size", 2048.into());
        compute = bed.start_with_env(&TALKATIVE);
        compute.wait_exit().await;
        assert_clean_of_secrets(&compute);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Tokens of every kind, incoming and outgoing: accepted, refused, forged, malformed, in the wrong
/// place.
#[tokio::test]
async fn tokens_at_trace_level() {
    on_one_server(|server| async {
        let mut bed = plant(server).await;
        let (key, stranger) = (EdKey::new(), EdKey::new());
        bed.spec.jwks = json!({"keys": [key.jwk()]});
        let document = json!({
            "status": "attached", "spec": bed.spec.config()["spec"],
            "compute_ctl_config": bed.spec.config()["compute_ctl_config"]
        });
        let app = axum::Router::new().fallback(async move || document.to_string());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/cp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let line = bed.args_for(&base);
        let env = [TALKATIVE[0], ("NEON_CONTROL_PLANE_TOKEN", "PLANTED-cplane-token")];
        let mut compute = Compute::spawn(&bed, &line, &env);
        compute.wait_for_log("compute start finished").await;

        let own = json!({"compute_id": "c1", "PLANTED": "PLANTED"});
        let good = key.sign(&own);
        let forged = stranger.sign(&own);
        let other = key.sign(&json!({"compute_id": "PLANTED-other"}));
        let url = |path: &str| format!("{}{path}", compute.external);
        let ask = async |path: &str, authorizations: &[String]| {
            let mut request = compute.http.get(url(path));
            for authorization in authorizations {
                request = request.header("authorization", authorization);
            }
            request.send().await.unwrap().status().as_u16()
        };
        let bearer = |token: &str| format!("Bearer {token}");
        assert_eq!(ask("/status", &[bearer(&good)]).await, 200);
        assert_eq!(ask("/status?wait=running", &[bearer(&good)]).await, 200);
        assert_eq!(ask("/status", &[bearer(&forged)]).await, 401);
        assert_eq!(ask("/status", &[bearer(&other)]).await, 403);
        assert_eq!(ask("/status", &[bearer("PLANTED")]).await, 401);
        assert_eq!(ask("/status", &["PLANTED".to_owned()]).await, 400);
        assert_eq!(ask("/status", &["Basic UExBTlRFRA== PLANTED".to_owned()]).await, 400);
        assert_eq!(ask("/status", &[bearer(&good), bearer(&good)]).await, 400);
        assert_eq!(ask("/status", &[bearer(&"PLANTED".repeat(4000))]).await, 400);
        assert_eq!(ask("/nope", &[bearer(&good)]).await, 404);
        let refresh = format!("{}/refresh_configuration", compute.internal);
        let refresh = compute.http.post(refresh).header("authorization", bearer(&good));
        assert_eq!(refresh.send().await.unwrap().status().as_u16(), 200);
        let configure = |token: &str, body: String| {
            let request = compute.http.post(url("/configure")).bearer_auth(token);
            request.header("content-type", "application/json").body(body)
        };
        // A document of another shape, with a secret where the error is.
        let mut wrong = bed.configure_body();
        wrong["spec"]["cluster"]["roles"] = json!([{"name": "x", "encrypted_password": 1}]);
        wrong["spec"]["storage_auth_token"] = json!(["PLANTED"]);
        let answer = configure(&good, wrong.to_string()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 422);
        assert!(!answer.text().await.unwrap().contains(MARK));
        // Values that are wrong in themselves: of another type, a safekeeper twice, or a URL in
        // place of an address.
        for (member, value, code) in [
            ("pgbouncer_settings", json!("PLANTED"), 422),
            ("cluster", json!("PLANTED"), 422),
            ("pageserver_connection_info", json!("PLANTED"), 422),
            ("tenant_id", json!({"PLANTED": 1}), 422),
            ("suspend_timeout_seconds", json!("PLANTED"), 422),
            ("safekeeper_connstrings", json!(vec!["postgres://u:PLANTED@sk:1/"; 2]), 400),
            ("safekeeper_connstrings", json!(["u:PLANTED@sk:1", "u:PLANTED@sk:1"]), 400),
            ("logs_export_host", json!("http://u:PLANTED@h/"), 400),
        ] {
            let mut wrong = bed.configure_body();
            wrong["spec"][member] = value;
            let answer = configure(&good, wrong.to_string()).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), code, "{member}");
            let text = answer.text().await.unwrap();
            assert!(!text.contains(MARK), "{member}: {text}");
        }

        // The program's own client reveals no more.
        let token_file = bed.write_text("token", &good).display().to_string();
        let args = ["status", "--url", &compute.external, "--token-file", &token_file];
        let ran = client_with_env(&args, &TALKATIVE).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let signatures = [&good, &forged, &other].map(|token| token.rsplit_once('.').unwrap().1);
        for signature in signatures {
            assert!(!compute.log().contains(signature), "a token is in the log");
            assert!(!format!("{ran:?}").contains(signature), "a token is in the client's output");
        }
        assert_clean(&compute);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_clean(&compute);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Like [`assert_clean`], for a process that ended before it logged anything at that level.
fn assert_clean_of_secrets(compute: &Compute) {
    assert!(!compute.log().contains(MARK), "{}", compute.log());
}
