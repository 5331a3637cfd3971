//! Traces of a running compute (01 §21, 03 §3.3), and the contexts that its requests carry.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::collector::{
    CALLER, CLIENT, Collector, SERVER, Seen, TRACE, TRACEPARENT,
};
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

fn inside(span: &Seen, of: &Seen) {
    assert_eq!((&span.trace, &span.parent), (&of.trace, &of.id), "{span:#?} {of:#?}");
}

#[tokio::test]
async fn the_control_plane_sees_the_trace_that_asks_it() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let document = answer(&bed, "attached", bed.spec.spec());
        let cplane = HttpStub::start(Reply::Answer(200, document.into())).await;
        let collector = Collector::start().await;
        let env = collector.env(&[("TRACEPARENT", TRACEPARENT), ("TRACESTATE", "vendor=1")]);
        let line = bed.args_for(&format!("{}/PLANTED", cplane.url()));
        let mut compute = Compute::spawn(&bed, &line, &env);
        bed.wait_running(&mut compute).await;
        let name = "GET /compute/api/v2/computes/{compute_id}/spec";
        let asked = collector.wait_for(name).await;
        assert_eq!((asked.kind, &*asked.attributes["http.response.status_code"]), (CLIENT, "200"));
        assert_eq!(asked.attributes["server.port"], cplane.address.rsplit(':').next().unwrap());
        assert!(!format!("{asked:?}").contains("PLANTED"), "{asked:?}");
        let fetch = collector.wait_for("fetch_configuration").await;
        inside(&asked, &fetch);
        assert_eq!((fetch.trace.as_str(), fetch.parent.as_str()), (TRACE, CALLER));
        let sent = cplane.wait_for(1).await;
        assert_eq!(sent.header("traceparent").unwrap(), asked.traceparent());
        assert_eq!(sent.header("tracestate").unwrap(), "vendor=1");

        bed.spec.set("work_mem", "9MB");
        cplane.reply(Reply::Answer(200, answer(&bed, "attached", bed.spec.spec()).into()));
        compute.refresh().await;
        let request = collector.wait_for("POST /refresh_configuration").await;
        let refresh = collector.wait_for("refresh").await;
        inside(&refresh, &request);
        assert_eq!((refresh.error.as_ref(), request.kind), (None, SERVER));
        assert!(refresh.events.contains(&"reload".to_owned()), "{refresh:?}");
        let of_refresh = |span: &Seen| span.name == name && span.trace == refresh.trace;
        let asked = collector.wait("a request of the refresh", of_refresh).await;
        let sent = cplane.wait_for(2).await;
        assert_eq!(sent.header("traceparent").unwrap(), asked.traceparent());

        // An answer that is an error.
        cplane.reply(Reply::Answer(404, Vec::new()));
        compute.refresh().await;
        let failed = collector.wait("a failed request", |it| it.name == name && it.error.is_some());
        let failed = failed.await;
        assert_eq!(failed.attributes["error.type"], "404");
        let failed = |span: &Seen| span.name == "refresh" && span.error.is_some();
        let error = collector.wait("a failed refresh", failed).await.error.unwrap();
        assert!(error.contains("the control plane answered 404"), "{error}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn what_requests_begin_is_in_their_traces() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let storage = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        bed.spec.member("endpoint_id", json!("ep-1"));
        bed.spec.member("endpoint_storage_addr", json!(storage.address));
        bed.spec.member("endpoint_storage_token", json!("PLANTED"));
        let collector = Collector::start().await;
        let mut compute = bed.start_with_env(&collector.env(&[]));
        bed.wait_running(&mut compute).await;

        bed.spec.set("work_mem", "9MB");
        assert_eq!(compute.configure(&bed).await.0.as_u16(), 200);
        let request = collector.wait_for("POST /configure").await;
        inside(&collector.wait_for("reconfigure").await, &request);

        bed.spec.set("work_mem", "much");
        let (code, _) = compute.configure(&bed).await;
        assert!(code.is_client_error(), "{code}");
        let refused = |span: &Seen| span.name == "reconfigure" && span.error.is_some();
        let refused = collector.wait("a refused spec", refused).await;
        assert!(refused.error.unwrap().contains("work_mem"));
        // A mistake of the client is not an error of this program.
        let request = |span: &Seen| {
            span.name == "POST /configure"
                && span.attributes["http.response.status_code"] == code.as_u16().to_string()
        };
        assert_eq!(collector.wait("the refusal", request).await.error, None);

        assert_eq!(compute.post("/lfc/prewarm", None).await.0.as_u16(), 202);
        let request = collector.wait_for("POST /lfc/prewarm").await;
        let prewarm = collector.wait_for("prewarm").await;
        inside(&prewarm, &request);
        let name = "GET /{tenant_id}/{timeline_id}/{endpoint_id}/lfc_state";
        let asked = collector.wait_for(name).await;
        inside(&asked, &prewarm);
        let sent = storage.wait_for(1).await;
        assert_eq!(sent.header("traceparent").unwrap(), asked.traceparent());

        // A primary cannot be promoted.
        let body = bed.promote_body("0/0");
        assert_eq!(compute.post("/promote", Some(&body)).await.0.as_u16(), 500);
        let request = collector.wait_for("POST /promote").await;
        assert!(request.error.is_some(), "{request:?}");
        let promote = collector.wait_for("promote").await;
        inside(&promote, &request);
        assert!(promote.error.unwrap().contains("is not replica"));

        let (code, _) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        let request = collector.wait_for("POST /terminate").await;
        assert_eq!(request.attributes["url.query"], "mode=immediate");
        inside(&collector.wait_for("terminate").await, &request);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn probes_leave_no_traces_and_unknown_values_are_not_shown() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let collector = Collector::start().await;
        let mut compute = bed.start_with_env(&collector.env(&[]));
        bed.wait_running(&mut compute).await;
        for path in ["/live", "/ready", "/startup", "/metrics"] {
            compute.get(path).await;
        }
        compute.get("/nope/PLANTED?token=PLANTED").await;
        let unknown = |span: &Seen| {
            span.attributes.get("http.response.status_code").is_some_and(|it| it == "404")
        };
        let unknown = collector.wait("an unknown path", unknown).await;
        assert_eq!((unknown.name.as_str(), unknown.kind), ("GET", SERVER));
        assert_eq!(unknown.attributes["url.query"], "token=REDACTED");
        let names = collector.names();
        assert!(names.contains(&"GET /status".to_owned()), "{names:?}");
        for path in ["/live", "/ready", "/startup", "/metrics"] {
            assert!(!names.iter().any(|name| name.ends_with(path)), "{names:?}");
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_pageserver_over_grpc_sees_the_trace() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.pageserver_over_grpc(&bed.pageserver);
        let collector = Collector::start().await;
        let mut compute = bed.start_with_env(&collector.env(&[]));
        bed.wait_running(&mut compute).await;
        let asked = collector.wait_for("pageserver basebackup").await;
        inside(&asked, &collector.wait_for("basebackup").await);
        let metadata = bed.pageserver.grpc_journal().startups().concat();
        let sent = metadata.iter().find(|(name, _)| name == "traceparent");
        assert_eq!(sent.map(|it| &it.1), Some(&asked.traceparent()), "{metadata:?}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
