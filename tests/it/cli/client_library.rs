//! The public module `client`: typed answers and errors of a real compute.

use std::time::Duration;

use compute_ctl::client::documents::{Extension, Grant, Offload, Outcome, Prewarm, Promotion};
use compute_ctl::client::{Client, ComputeStatus, Error, Options, Secret, TerminateMode, Timeouts};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, EdKey, LSN_TEXT};
use crate::support::network::SilentPort;
use crate::support::server::{on_one_server, on_one_server_with};

#[path = "../../../examples/client.rs"]
#[expect(dead_code, reason = "the program's own `main`")]
mod example;

const LIMIT: Duration = Duration::from_secs(60);

fn options(port: u16, token: Option<&str>) -> Options {
    let token = token.map(|token| Secret::new(token.to_owned()));
    Options { url: format!("127.0.0.1:{port}"), token, ..Options::default() }
}

fn client(port: u16, token: Option<&str>) -> Client {
    Client::new(options(port, token)).unwrap()
}

/// A bed that requires tokens, and a token.
async fn guarded(server: compute_ctl::dev::servers::Server) -> (Bed, String) {
    let mut bed = Bed::new(server).await;
    let key = EdKey::new();
    bed.spec.jwks = json!({"keys": [key.jwk()]});
    (bed, key.sign(&json!({"compute_id": "c1"})))
}

/// Status code and text of an answer that is not a success.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: u16) -> String {
    let error = result.unwrap_err();
    let answer = error.refusal().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(answer.status, code, "{answer}");
    answer.text.clone().unwrap()
}

#[tokio::test]
async fn every_operation() {
    // The schema dump of a database needs it.
    on_one_server_with("pg_dump", |server| async {
        let (mut bed, token) = guarded(server).await;
        bed.spec.set("shared_preload_libraries", "pg_stat_statements");
        let outside = client(bed.external_port, Some(&token));
        let inside = client(bed.internal_port, None);
        let open = client(bed.external_port, None);
        assert!(matches!(open.live().await, Err(Error::NotReached(_))));

        let mut compute = bed.start();
        compute.authorize(&token);
        let status = outside.wait_for(ComputeStatus::Running, LIMIT).await.unwrap();
        assert_eq!(status.tenant(), Some(bed.spec.tenant_id.as_str()));
        assert_eq!(status.timeline(), Some(bed.spec.timeline_id.as_str()));
        assert!(status.start_time().unwrap() <= chrono::Utc::now());
        assert_eq!((status.error(), status.status().name()), (None, "running"));
        open.wait_until_ready(LIMIT).await.unwrap();

        // Without a token.
        open.live().await.unwrap();
        open.ready().await.unwrap();
        open.startup().await.unwrap();
        assert!(open.metrics().await.unwrap().contains("\ncompute_ctl_up{"));
        for server in [&open, &inside] {
            assert_eq!(server.description().await.unwrap()["openapi"], "3.1.0");
        }
        for server in [&outside, &inside] {
            let details = server.details().await.unwrap();
            assert_eq!(details.pointer("/status/status").unwrap(), "running");
        }
        refused(open.autoscaling_metrics().await, 500);
        let text = refused(open.status().await, 400);
        assert!(text.contains("invalid authorization token"), "{text}");
        let stranger = EdKey::new().sign(&json!({"compute_id": "c1"}));
        refused(client(bed.external_port, Some(&stranger)).status().await, 401);

        // The compute and its catalog.
        assert!(outside.startup_metrics().await.unwrap().total_startup_ms > 0);
        outside.postgres_answers().await.unwrap();
        let sql = compute.sql().await;
        sql.batch_execute(
            "CREATE EXTENSION pg_stat_statements; CREATE ROLE r; CREATE SCHEMA auth; \
             CREATE TABLE t (a int); SET ROLE r; SELECT 'seen'; RESET ROLE; \
             CREATE TABLE public.health_check (id int4 PRIMARY KEY, updated_at timestamptz)",
        )
        .await
        .unwrap();
        let insights = outside.insights().await.unwrap().pg_stat_statements;
        assert!(insights.iter().all(|row| row["calls"].is_u64()) && !insights.is_empty());
        outside.check_writability().await.unwrap();
        let catalog = outside.databases_and_roles().await.unwrap();
        assert!(catalog.databases.iter().any(|it| it.name == "postgres" && !it.invalid));
        assert!(catalog.roles.iter().any(|role| role.name == "r"));
        let schema = outside.database_schema("postgres").await.unwrap();
        assert!(schema.contains("CREATE TABLE public.t ("), "{schema}");
        let text = refused(outside.database_schema("a&b=c d/é").await, 404);
        assert_eq!(text, "database does not exist");

        // The file cache.
        assert_eq!(outside.prewarm_state().await.unwrap(), Prewarm::NotPrewarmed);
        assert_eq!(outside.offload_state().await.unwrap(), Offload::NotOffloaded);
        outside.prewarm(Some("ep-other")).await.unwrap();
        outside.cancel_prewarm().await.unwrap();
        outside.offload().await.unwrap();

        // The internal server.
        let grant = Grant {
            database: "postgres".to_owned(),
            schema: "auth".to_owned(),
            privileges: vec!["USAGE".to_owned()],
            role: "r".to_owned(),
        };
        inside.grant(&grant).await.unwrap();
        let grant = Grant { schema: "pg_catalog".to_owned(), ..grant };
        refused(inside.grant(&grant).await, 403);
        let extension = Extension {
            extension: "neon".to_owned(),
            database: "postgres".to_owned(),
            version: "1.6".to_owned(),
        };
        refused(inside.install_extension(&extension).await, 403);
        refused(inside.download_extension("a b/c", true).await, 412);
        refused(inside.status().await, 404);

        // Other configurations.
        let text = refused(outside.configure(&json!({"spec": {}})).await, 422);
        assert!(!text.is_empty());
        let outcome = outside.promote(&json!({"spec": 7, "wal_flush_lsn": "0/1"})).await;
        refused(outcome, 422);
        let document = json!({
            "spec": bed.configure_body()["spec"], "wal_flush_lsn": LSN_TEXT
        });
        match outside.promote(&document).await.unwrap() {
            Promotion::Failed { error } => assert!(error.contains("replica"), "{error}"),
            other => panic!("{other:?}"),
        }
        inside.refresh().await.unwrap();
        outside.wait_for(ComputeStatus::Running, LIMIT).await.unwrap();

        let terminated = outside.terminate(TerminateMode::Fast).await.unwrap();
        assert_eq!(terminated.lsn.as_deref(), Some(LSN_TEXT));
        outside.terminate(TerminateMode::Immediate).await.unwrap();
        refused(outside.configure(&bed.configure_body()).await, 412);
        let never = outside.wait_for(ComputeStatus::Running, LIMIT).await.unwrap_err();
        assert!(matches!(never, Error::Never { status: ComputeStatus::Terminated, .. }), "{never}");
        compute.stop(Signal::SIGTERM).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A change that Postgres refuses is the object `failed` in the report, others are the string
/// `done`.
#[tokio::test]
async fn outcomes_of_an_apply_and_the_example() {
    on_one_server(|server| async {
        let (mut bed, token) = guarded(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        let mut compute = bed.start();
        compute.authorize(&token);
        let outside = client(bed.external_port, Some(&token));
        outside.wait_for(ComputeStatus::Running, LIMIT).await.unwrap();

        let said = async |configuration: Option<Value>| {
            let mut out = Vec::new();
            let options = options(bed.external_port, Some(&token));
            example::watch(options, configuration, &mut out).await.unwrap();
            String::from_utf8(out).unwrap()
        };
        bed.spec.role("owner", None).database("d", "owner");
        let text = said(Some(bed.configure_body())).await;
        assert!(text.starts_with(&format!("tenant {} is running\n", bed.spec.tenant_id)), "{text}");
        assert!(text.contains("database postgres of "), "{text}");
        assert!(text.contains("applied the configuration: "), "{text}");
        assert!(said(None).await.contains("database d of owner\n"));
        let done = outside.status().await.unwrap().extra().unwrap().apply_report.unwrap();
        assert!(done.operations.iter().all(|it| it.outcome == Outcome::Done), "{done:?}");
        assert!(done.operations.iter().any(|it| it.action == "create" && it.object.name == "d"));

        bed.spec.role("pg_mine", None).member("operation_uuid", json!("op-2"));
        let text = said(Some(bed.configure_body())).await;
        assert!(text.contains("not applied: 500 Internal Server Error: "), "{text}");
        let extra = outside.status().await.unwrap().extra().unwrap();
        assert_eq!(extra.last_failure.unwrap().operation.as_deref(), Some("op-2"));
        let failed = extra.apply_report.unwrap();
        let failed = failed.operations.iter().find_map(|it| match &it.outcome {
            Outcome::Failed { sqlstate, .. } => sqlstate.as_deref(),
            _ => None,
        });
        assert_eq!(failed, Some("42939"), "reserved_name");
        compute.stop(Signal::SIGTERM).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Every call ends by itself.
#[tokio::test]
async fn a_server_that_is_silent() {
    let silent = SilentPort::open();
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { answer: short, change: short, terminate: short };
    let url = format!("http://{}", silent.address());
    let client = Client::new(Options { url, timeouts, ..Options::default() }).unwrap();
    assert!(matches!(client.status().await, Err(Error::Deadline)));
    assert!(matches!(client.configure(&json!({})).await, Err(Error::Deadline)));
    assert!(matches!(client.terminate(TerminateMode::Fast).await, Err(Error::Deadline)));
    assert!(matches!(client.wait_until_ready(short).await, Err(Error::Deadline)));
    let waited = client.wait_for(ComputeStatus::Running, short).await;
    assert!(matches!(waited, Err(Error::Deadline)), "{waited:?}");

    let bad = Options { token: Some(Secret::new("a b".to_owned())), ..Options::default() };
    assert!(!Client::new(bad).unwrap_err().to_string().contains("a b"));
}
