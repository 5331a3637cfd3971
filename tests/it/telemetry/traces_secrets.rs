//! No secret is in what the collector gets.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::collector::{Collector, Seen};
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// A part of every secret.
const MARK: &str = "PLANTED";
const TOKEN: &str = "PLANTED-storage-token";
const HASH: &str = "SCRAM-SHA-256$4096:PLANTEDA\
                    $PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\
                    :PLANTEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[tokio::test]
async fn the_collector_gets_none() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.storage_auth_token = Some(TOKEN.to_owned());
        bed.pageserver.behave(|it| it.password = Some(TOKEN.to_owned()));
        bed.safekeepers[0].behave(|it| it.password = Some(TOKEN.to_owned()));
        bed.spec.pageserver_connstring =
            bed.pageserver.connstring().replace("no_user@", "no_user:PLANTED-password@");
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", Some(HASH)).database("store", "ann");
        let storage = HttpStub::start(Reply::Answer(500, Vec::new())).await;
        bed.spec.member("endpoint_id", json!("ep-1"));
        bed.spec.member("endpoint_storage_addr", json!(storage.address));
        bed.spec.member("endpoint_storage_token", json!("PLANTED-endpoint-token"));
        let document = answer(&bed, "attached", bed.spec.spec());
        let cplane = HttpStub::start(Reply::Answer(200, document.into())).await;
        let base = cplane.url().replace("http://", "http://u:PLANTED@") + "/PLANTED?PLANTED";
        let collector = Collector::start().await;
        let env = collector.env(&[
            ("NEON_CONTROL_PLANE_TOKEN", "PLANTED-cplane-token"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=PLANTED-header"),
        ]);
        let mut compute = Compute::spawn(&bed, &bed.args_for(&base), &env);
        bed.wait_running(&mut compute).await;
        assert_eq!(compute.post("/lfc/prewarm", None).await.0.as_u16(), 202);
        compute.prewarm_outcome().await;
        // Statements that fail, one with a hash.
        bed.spec.role("pg_reserved", Some(HASH));
        assert!(!compute.configure(&bed).await.0.is_success());
        let token = compute.http.get(format!("{}/status?jwt=PLANTED", compute.external));
        token.header("authorization", "Bearer PLANTED").send().await.unwrap();
        let failed =
            |name: &'static str| move |span: &Seen| span.name == name && span.error.is_some();
        collector.wait("a failed prewarm", failed("prewarm")).await;
        collector.wait("a failed reconfiguration", failed("reconfigure")).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        assert!(cplane.asked()[0].head.contains(MARK), "the planted ones did arrive");
        for asked in collector.requests() {
            assert_eq!(asked.header("x-key").unwrap(), "PLANTED-header");
            let text = String::from_utf8_lossy(&asked.body);
            assert!(!text.contains(MARK), "{text}");
            assert!(!text.contains("CREATE ROLE") && !text.contains("ALTER ROLE"), "{text}");
        }
        let log = compute.log();
        assert!(!log.contains("PLANTED-header"), "{log}");
        assert_nothing_left(&bed);
    })
    .await;
}
