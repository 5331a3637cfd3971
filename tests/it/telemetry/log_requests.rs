//! Lines of the log that a request leads to have its id, wherever the work is done, and a mistake of
//! a client is not an error of the operator.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{assert_tries, find, records};
use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::network::collector::Collector;
use crate::support::network::{HttpStub, Reply, answer};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const JSON: (&str, &str) = ("COMPUTE_CTL_LOG_FORMAT", "json");

/// The last record with each of the texts belongs to that request of this kind, counted from 1.
/// Returns its id. Lines that were written before an answer may appear in the log after it.
async fn belong_to(compute: &Compute, line: &str, number: usize, texts: &[&str]) -> Value {
    let ids = |it: &Value| (it["request_id"].clone(), it["trace_id"].clone());
    let request = || {
        let all = records(compute);
        let mut requests = all.iter().filter(|it| it["message"] == line);
        requests.nth(number - 1).map(ids)
    };
    until(line, || async { request().is_some() }).await;
    let request = request().unwrap();
    assert!(request.0.is_string() && request.1.is_string(), "{line}: {request:?}");
    for text in texts {
        let last_is_of_it = || {
            let all = records(compute);
            let has = |it: &&Value| it["message"].as_str().unwrap().contains(text);
            all.iter().rfind(has).is_some_and(|it| ids(it) == request)
        };
        until(&format!("{text:?} of {line}"), || async { last_is_of_it() }).await;
    }
    request.0
}

#[tokio::test]
async fn the_work_of_the_driver_has_the_id_of_its_request() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        let collector = Collector::start().await;
        let config = json!({"compute_ctl_config": {"jwks": {"keys": []}}});
        let config = bed.write("config.json", &config).display().to_string();
        let mut line = bed.base_args();
        line.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
        let mut compute = Compute::spawn(&bed, &line, &collector.env(&[JSON]));
        compute.wait_for("empty").await;
        let (code, text) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{text}");
        let start = [
            "got configuration request",
            "from configuration-pending to init",
            "phase basebackup took",
            "statements",
            "compute start finished",
            "from init to running",
        ];
        let of_start = belong_to(&compute, "POST /configure", 1, &start).await;

        bed.spec.set("work_mem", "9MB");
        let (code, text) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{text}");
        let change = ["got configuration request", "finished reconfiguration", "to running"];
        let of_change = belong_to(&compute, "POST /configure", 2, &change).await;
        assert_ne!(of_change, of_start);

        bed.spec.set("work_mem", "much");
        let (code, text) = compute.configure(&bed).await;
        assert!(code.is_client_error(), "{text}");
        belong_to(&compute, "POST /configure", 3, &["the new spec is refused"]).await;
        // A primary cannot be promoted.
        compute.post("/promote", Some(&bed.promote_body("0/0"))).await;
        belong_to(&compute, "POST /promote", 1, &["could not promote the replica"]).await;
        let (code, _) = compute.post("/terminate?mode=immediate", None).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        let end = ["stopping: sending", "terminated"];
        belong_to(&compute, "POST /terminate?mode=immediate", 1, &end).await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_has_the_id_of_its_request_and_a_failed_start_that_of_its_configure() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let document = answer(&bed, "attached", bed.spec.spec());
        let cplane = HttpStub::start(Reply::Answer(200, document.into())).await;
        let collector = Collector::start().await;
        let env = collector.env(&[JSON]);
        let mut compute = Compute::spawn(&bed, &bed.args_for(&cplane.url()), &env);
        bed.wait_running(&mut compute).await;
        cplane.reply(Reply::Answer(404, Vec::new()));
        compute.refresh().await;
        compute.wait_for_log("could not refresh the configuration").await;
        let refresh = ["from running to refresh", "could not refresh the configuration"];
        belong_to(&compute, "POST /refresh_configuration", 1, &refresh).await;
        assert_tries(&compute, "control_plane", "succeeded", 1).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);

        bed.spec.set("no_such_setting", "1");
        let mut compute = Compute::spawn(&bed, &empty_args(&bed), &env);
        compute.wait_for("empty").await;
        assert_eq!(compute.configure(&bed).await.0.as_u16(), 500);
        compute.dismiss().await;
        let failed = ["from init to failed", "could not start the compute node"];
        belong_to(&compute, "POST /configure", 1, &failed).await;
        assert_nothing_left(&bed);
    })
    .await;
}

fn empty_args(bed: &Bed) -> Vec<String> {
    let config = json!({"compute_ctl_config": {"jwks": {"keys": []}}});
    let config = bed.write("empty.json", &config).display().to_string();
    let mut line = bed.base_args();
    line.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
    line
}

/// Each answer 4xx leaves WARN at most.
#[tokio::test]
async fn mistakes_of_clients_are_not_errors_of_the_operator() {
    on_one_server(|server| async {
        let has_pg_dump = server.program("pg_dump").exists();
        let bed = Bed::new(server).await;
        let mut compute = bed.start_with_env(&[JSON]);
        bed.wait_running(&mut compute).await;
        let body = json!({"database": "postgres", "schema": "public", "privileges": ["USAGE"],
            "role": "cloud_admin"});
        for (internal, path, body, codes) in [
            (false, "/configure", json!({}), 422),
            (false, "/configure", json!({"spec": 1}), 422),
            (false, "/promote", json!({}), 422),
            (true, "/grants", body, 403),
            (true, "/extensions", json!({"database": "postgres"}), 422),
            (true, "/log_level", json!({"level": "loud"}), 400),
        ] {
            let (code, text) = match internal {
                true => compute.post_internal(path, &body).await,
                false => compute.post(path, Some(&body)).await,
            };
            assert_eq!(code.as_u16(), codes, "{path}: {text}");
        }
        let mut paths = vec![("/nope", 404), ("/status?wait=x", 400), ("/database_schema", 400)];
        if has_pg_dump {
            paths.push(("/database_schema?database=no_such", 404));
        }
        for (path, code) in paths {
            assert_eq!(compute.get(path).await.0.as_u16(), code, "{path}");
        }
        let (code, _) = compute.post("/extension_server/x", None).await;
        assert_eq!(code.as_u16(), 404, "the other server has it");
        // The spec names neither an endpoint nor a storage; by contract the answer comes before the
        // work.
        for path in ["/lfc/prewarm", "/lfc/offload"] {
            assert_eq!(compute.post(path, None).await.0.as_u16(), 202);
            until("it has failed", || async { compute.get(path).await.1["status"] == "failed" })
                .await;
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        let all = records(&compute);
        for (text, level) in [
            ("could not prewarm the local file cache: pspec.endpoint_id missing", "WARN"),
            ("could not offload the local file cache: pspec.endpoint_id missing", "WARN"),
            ("prewarm of the local file cache", "INFO"),
        ] {
            let one = find(&all, text);
            assert_eq!((&one["level"], one["request_id"].is_string()), (&json!(level), true));
        }
        let of_program = |it: &&Value| it["source"] == "compute_ctl" && it["level"] == "ERROR";
        let errors: Vec<_> = all.iter().filter(of_program).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        assert_nothing_left(&bed);
    })
    .await;
}
