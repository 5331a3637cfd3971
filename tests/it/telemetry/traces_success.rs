//! Traces of work that succeeds: a promotion, a prewarm, an offload and the download of an extension
//! (01 §21). `traces_work` has those that fail.

use nix::sys::signal::Signal;

use super::assert_tries;
use crate::services::lfc::{hex, set};
use crate::services::remote_extensions::{remote_extensions, sql_only};
use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, CACHE_FUNCTIONS, CACHE_STATE, compressed_cache, use_storage};
use crate::support::network::collector::{Collector, INTERNAL, SERVER, Seen};
use crate::support::network::{HttpStub, Reply};
use crate::support::process::Replica;
use crate::support::server::on_one_server;

/// A span without an error, inside of another one.
fn good(span: &Seen, of: &Seen) {
    assert_eq!((&span.trace, &span.parent), (&of.trace, &of.id), "{span:#?} {of:#?}");
    assert_eq!((span.error.as_ref(), of.error.as_ref()), (None, None), "{span:#?} {of:#?}");
}

#[tokio::test]
async fn a_promotion_and_its_apply() {
    on_one_server(|server| async {
        let collector = Collector::start().await;
        let mut replica = Replica::start_with_env(server, &collector.env(&[])).await;
        replica.compute.prewarm().await;
        replica.bed.spec.skip_pg_catalog_updates = false;
        replica.bed.spec.role("ann", None).database("store", "ann");
        let (code, answer) = replica.promote(&replica.flushed().await).await;
        assert_eq!(code.as_u16(), 200, "{answer}\n{}", replica.compute.log());

        let request = collector.wait_for("POST /promote").await;
        assert_eq!(request.kind, SERVER);
        assert_eq!(request.attributes["http.response.status_code"], "200");
        let promote = collector.wait_for("promote").await;
        good(&promote, &request);
        assert_eq!(promote.kind, INTERNAL);
        let apply = collector.wait("apply", |it| it.name == "apply" && it.trace == promote.trace);
        good(&apply.await, &promote);
        replica.end().await;
    })
    .await;
}

#[tokio::test]
async fn an_offload_and_a_prewarm() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(200, Vec::new())).await;
        let mut bed = Bed::new(server).await;
        use_storage(&mut bed, &storage.address);
        let collector = Collector::start().await;
        let mut compute = bed.start_with_env(&collector.env(&[]));
        bed.wait_running(&mut compute).await;
        compute.sql().await.batch_execute(CACHE_FUNCTIONS).await.unwrap();
        set(&compute, &format!("state = '\\x{}'", hex(CACHE_STATE))).await;

        assert_eq!(compute.post("/lfc/offload", None).await.0.as_u16(), 202);
        let request = collector.wait_for("POST /lfc/offload").await;
        let offload = collector.wait_for("offload").await;
        good(&offload, &request);
        let path = "/{tenant_id}/{timeline_id}/{endpoint_id}/lfc_state";
        let put = collector.wait_for(&format!("PUT {path}")).await;
        good(&put, &offload);
        assert_eq!(storage.wait_for(1).await.header("traceparent").unwrap(), put.traceparent());
        assert_eq!(compute.get("/lfc/offload").await.1["status"], "completed");

        storage.reply(Reply::Answer(200, compressed_cache()));
        assert_eq!(compute.prewarm().await["status"], "completed");
        let request = collector.wait_for("POST /lfc/prewarm").await;
        let prewarm = collector.wait_for("prewarm").await;
        good(&prewarm, &request);
        let get = collector.wait_for(&format!("GET {path}")).await;
        good(&get, &prewarm);
        assert_eq!(storage.wait_for(2).await.header("traceparent").unwrap(), get.traceparent());
        assert_tries(&compute, "endpoint_storage", "succeeded", 2).await;
        assert_tries(&compute, "pageserver", "succeeded", 1).await;
        // Neither the state nor the token is in a span.
        let all = format!("{:?}", collector.spans());
        assert!(!all.contains("PLANTED") && !all.contains("state of the cache"), "{all}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_download_of_an_extension() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(_folders) = bed.relocate_server().await else { return };
        bed.spec.member("remote_extensions", remote_extensions());
        let gateway = HttpStub::start(Reply::Answer(200, sql_only())).await;
        let collector = Collector::start().await;
        let mut args = bed.base_args();
        args.extend(bed.config_args());
        args.extend(["--remote-ext-base-url".to_owned(), format!("{}/gw/", gateway.url())]);
        let env = collector.env(&[]);
        let mut compute = crate::support::process::Compute::spawn(&bed, &args, &env);
        bed.wait_running(&mut compute).await;
        let url = format!("{}/extension_server/hypo_geo", compute.internal);
        assert_eq!(compute.http.post(url).send().await.unwrap().status(), 200);

        let request = collector.wait_for("POST /extension_server/{*filename}").await;
        let download = collector.wait_for("download_extension").await;
        good(&download, &request);
        assert_eq!(download.attributes["extension"], "hypo_geo");
        assert_eq!(download.attributes["bytes"], sql_only().len().to_string());
        let of_download = |it: &Seen| it.parent == download.id && it.name.starts_with("GET /");
        let get = collector.wait("the request to the gateway", of_download).await;
        good(&get, &download);
        assert_eq!(gateway.wait_for(1).await.header("traceparent").unwrap(), get.traceparent());
        assert_tries(&compute, "extension_gateway", "succeeded", 1).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
