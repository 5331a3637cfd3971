//! What `/status` says about the last apply of the catalog, and about the operations behind it.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

async fn configure(bed: &mut Bed, compute: &Compute, operation: &str) -> (u16, Value) {
    bed.spec.member("operation_uuid", json!(operation));
    let (code, _) = compute.configure(bed).await;
    let (_, mut status) = compute.get("/status").await;
    (code.as_u16(), status["extra"].take())
}

/// The only report on an object.
fn about<'a>(extra: &'a Value, object: &Value) -> &'a Value {
    let operations = extra["apply_report"]["operations"].as_array().unwrap();
    let mut found = operations.iter().filter(|report| report["object"] == *object);
    let report = found.next().unwrap_or_else(|| panic!("{object} in {extra}"));
    assert_eq!(found.next(), None, "{extra}");
    report
}

#[tokio::test]
async fn what_was_done_and_what_failed() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None);
        let (code, extra) = configure(&mut bed, &compute, "good").await;
        assert_eq!(code, 200, "{extra}\n{}", compute.log());
        let ann = about(&extra, &json!({"kind": "role", "name": "ann"}));
        assert_eq!((&ann["action"], &ann["outcome"]), (&json!("create"), &json!("done")));
        assert_eq!(extra["applied_operation"], "good");
        assert_eq!(extra["last_failure"], Value::Null);
        assert_eq!(extra["apply_report"]["error"], Value::Null);

        // Only the server itself knows that these names are reserved.
        bed.spec.role("pg_mine", None);
        let (code, extra) = configure(&mut bed, &compute, "bad").await;
        assert_eq!(code, 500, "{extra}");
        let mine = about(&extra, &json!({"kind": "role", "name": "pg_mine"}));
        let failed = &mine["outcome"]["failed"];
        assert_eq!((&mine["action"], &failed["sqlstate"]), (&json!("create"), &json!("42939")));
        assert!(failed["message"].as_str().unwrap().contains("pg_mine"), "{extra}");
        assert_eq!(extra["applied_operation"], "good");
        let failure = &extra["last_failure"];
        assert_eq!(
            (&failure["operation"], &failure["phase"]),
            (&json!("bad"), &json!("apply_catalog"))
        );
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Nothing was planned, so the report names no failed operation.
#[tokio::test]
async fn why_nothing_was_begun() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.database("d", "no one");
        let (code, extra) = configure(&mut bed, &compute, "unowned").await;
        assert_eq!(code, 500, "{extra}");
        let report = &extra["apply_report"];
        assert!(report["error"].as_str().unwrap().contains("the spec does not list it"), "{extra}");
        assert_eq!((&report["operations"], &report["counts"]["done"]), (&json!([]), &json!(0)));
        let failure = extra["last_failure"]["error"].as_str().unwrap();
        assert!(failure.contains("the spec does not list it"), "{extra}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
