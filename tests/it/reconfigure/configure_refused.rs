//! A `/configure` that comes during another operation is refused with the name of that operation,
//! which is not affected (01 §14.3).

use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// `status` is written as in error texts.
async fn refused(bed: &mut Bed, compute: &Compute, status: &str) {
    let wanted = bed.spec.settings.clone();
    bed.spec.set("app.number", "refused");
    let error = json!({"error": format!("invalid compute status: {status}")});
    assert_eq!(compute.configure(bed).await, (StatusCode::PRECONDITION_FAILED, error));
    // The spec is checked before the status.
    let mut body = bed.configure_body();
    body["spec"]["tenant_id"] = Value::Null;
    let (code, error) = compute.post("/configure", Some(&body)).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{error}");
    bed.spec.settings = wanted;
}

#[tokio::test]
async fn while_the_first_one_starts() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let go = bed.dir().join("go");
        bed.before_server(&format!(
            "cd \"$2\"; case $2 in *.warmup) ;; *) until [ -e '{}' ]; do \
             [ -e PG_VERSION ] || exit 1; sleep 0.01; done;; esac",
            go.display()
        ));
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        bed.spec.set("app.number", "first");
        let body = bed.configure_body();
        let others = async {
            compute.until_status("init").await;
            refused(&mut bed, &compute, "init").await;
            std::fs::write(&go, "").unwrap();
        };
        let ((code, body), ()) = tokio::join!(compute.post("/configure", Some(&body)), others);
        assert_eq!(code, StatusCode::OK, "{body}\n{}", compute.log());
        assert_eq!(compute.sql_text("SHOW app.number").await, "first");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn while_another_one_is_applied() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        // Statements on roles wait for this lock.
        let session = compute.sql().await;
        session.batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE").await.unwrap();
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None).set("app.number", "first");
        let body = bed.configure_body();
        let others = async {
            compute.until_status("configuration").await;
            refused(&mut bed, &compute, "configuration").await;
            session.batch_execute("ROLLBACK").await.unwrap();
        };
        let ((code, body), ()) = tokio::join!(compute.post("/configure", Some(&body)), others);
        assert_eq!(code, StatusCode::OK, "{body}\n{}", compute.log());
        assert_eq!(compute.sql_text("SHOW app.number").await, "first");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// While the refresh waits for its answer, and in the pause after it got none.
#[tokio::test]
async fn while_a_refresh_goes_on() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let document = |bed: &Bed| answer(bed, "attached", bed.spec.spec()).into_bytes();
        let control_plane = HttpStub::start(Reply::Answer(200, document(&bed))).await;
        let mut compute = Compute::spawn(&bed, &bed.args_for(&control_plane.url()), &[]);
        bed.wait_running(&mut compute).await;

        control_plane.reply(Reply::Answer(403, Vec::new()).held());
        compute.refresh().await;
        control_plane.wait_for(2).await;
        refused(&mut bed, &compute, "refresh-configuration").await;
        control_plane.release();
        compute.wait_for_log("could not refresh the configuration").await;
        refused(&mut bed, &compute, "refresh-configuration-pending").await;

        bed.spec.set("app.number", "refreshed");
        control_plane.reply(Reply::Answer(200, document(&bed)));
        compute.refresh().await;
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SHOW app.number").await, "refreshed");
        bed.spec.set("app.number", "configured");
        assert_eq!(compute.configure(&bed).await.0, StatusCode::OK);
        assert_eq!(compute.sql_text("SHOW app.number").await, "configured");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
