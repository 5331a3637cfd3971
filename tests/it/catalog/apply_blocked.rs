//! A user's lock does not make a `/configure` hang (05 weakness 5): it ends with an error that
//! names the failed step and the session with the lock, and the compute can be configured again.

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

struct Locked {
    lock: &'static str,
    /// The step that the error names.
    operation: &'static str,
}

async fn blocked(server: Server, Locked { lock, operation }: Locked) -> (Bed, Compute) {
    let mut bed = Bed::new(server).await;
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    let session = compute.sql().await;
    session.batch_execute("CREATE ROLE ann; SET application_name = 'greedy'").await.unwrap();
    session.batch_execute(&format!("BEGIN; {lock}")).await.unwrap();
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);

    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", Some("0123456789abcdef0123456789abcdef")).role("bob", None);
    let (code, body) = compute.configure(&bed).await;
    assert_eq!(code.as_u16(), 500, "{body}");
    let error = body["error"].as_str().unwrap().replace('\\', "");
    for part in [
        operation,
        &format!("lock held by pid {pid} (user \"cloud_admin\", database \"postgres\", "),
        "application \"greedy\", idle in transaction",
    ] {
        assert!(error.contains(part), "not {part} in {error}");
    }
    assert_eq!(compute.get("/status").await.1["status"], json!("failed"));
    assert_eq!(bed.pgdata_text("compute_ctl_temp_override.conf"), "", "the limit is back");
    session.batch_execute("ROLLBACK").await.unwrap();
    (bed, compute)
}

#[tokio::test]
async fn the_error_names_operation_and_owner_of_the_lock() {
    on_one_server(|server| async {
        let altered =
            Locked { lock: "ALTER ROLE ann CONNECTION LIMIT 5", operation: "alter role \"ann\"" };
        let locked = Locked {
            lock: "LOCK TABLE pg_authid IN EXCLUSIVE MODE",
            operation: "create role \"neon_superuser\"",
        };
        let ((bed, mut compute), (other_bed, mut other)) =
            tokio::join!(blocked(server.clone(), altered), blocked(server, locked));

        // The spec of the file leads back to `running`.
        compute.refresh().await;
        compute.wait_for_any(&["running"]).await;
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);

        let (code, body) = other.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        assert_eq!(other.wait_exit().await.code(), Some(0));
        assert_nothing_left(&other_bed);
    })
    .await;
}
