//! `/hadron_liveness_probe`: `pg_isready` decides (03 §14).

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, put_program};
use crate::support::server::on_one_server;

#[tokio::test]
async fn pg_isready_decides() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let program = bed.pgbin.with_file_name("pg_isready");
        let asked = format!("[ \"$*\" = '--port {} --host 127.0.0.1' ]", bed.port);
        put_program(&program, &format!("{asked} || exit 9"));
        let (code, body) = compute.get("/hadron_liveness_probe").await;
        assert_eq!((code.as_u16(), body), (200, json!("ok")));

        put_program(&program, "echo no server there; exit 2");
        let (code, body) = compute.get("/hadron_liveness_probe").await;
        assert_eq!(code, 500);
        let error = body["error"].as_str().unwrap();
        let text = format!("could not run `{} --port {}`", program.display(), bed.port);
        assert!(error.starts_with(&text) && error.contains("no server there"), "{error}");

        std::fs::remove_file(&program).unwrap();
        let (code, body) = compute.get("/hadron_liveness_probe").await;
        assert_eq!(code, 500);
        assert!(body["error"].as_str().unwrap().starts_with(&text), "{body}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
