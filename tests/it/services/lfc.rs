//! Prewarm and offload of the local file cache, with SQL functions in the place of the extension's.

use std::time::{Duration, Instant};

use compute_ctl::dev::sync_wrapper::SyncMode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{
    Bed, CACHE_FUNCTIONS, CACHE_STATE, STORAGE_TOKEN, compressed_cache, use_storage,
};
use crate::support::network::{HttpStub, Reply, SilentPort};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A bed on this storage, and a running compute with the stand-ins.
async fn start(server: compute_ctl::dev::servers::Server, storage: &HttpStub) -> (Bed, Compute) {
    let mut bed = Bed::new(server).await;
    use_storage(&mut bed, &storage.address);
    let mut compute = bed.start_with_env(&[("RUST_LOG", "debug")]);
    compute.wait_for("running").await;
    compute.sql().await.batch_execute(CACHE_FUNCTIONS).await.unwrap();
    (bed, compute)
}

pub async fn finish(mut compute: Compute, bed: &Bed) {
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert!(!compute.log().contains("PLANTED"), "{}", compute.log());
    assert_nothing_left(bed);
}

pub async fn set(compute: &Compute, assignment: &str) {
    let update = format!("UPDATE neon.behaviour SET {assignment}");
    compute.sql().await.batch_execute(&update).await.unwrap();
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub async fn post(compute: &Compute, path: &str) -> u16 {
    compute.post(path, None).await.0.as_u16()
}

pub async fn cancel(compute: &Compute) -> u16 {
    let request = compute.http.delete(format!("{}/lfc/prewarm", compute.external));
    request.send().await.unwrap().status().as_u16()
}

/// Waits until the operation has ended.
pub async fn outcome(compute: &Compute, path: &str) -> Value {
    let deadline = Instant::now() + crate::support::assertions::PATIENCE;
    loop {
        let (code, state) = compute.get(path).await;
        assert_eq!(code.as_u16(), 200);
        if !["prewarming", "offloading"].contains(&state["status"].as_str().unwrap()) {
            return state;
        }
        assert!(Instant::now() < deadline, "{state}\n{}", compute.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn prewarm(compute: &Compute) -> Value {
    assert_eq!(post(compute, "/lfc/prewarm").await, 202);
    outcome(compute, "/lfc/prewarm").await
}

async fn offload(compute: &Compute) -> Value {
    assert_eq!(post(compute, "/lfc/offload").await, 202);
    outcome(compute, "/lfc/offload").await
}

pub async fn metric(compute: &Compute, name: &str) -> u64 {
    let (_, text) = compute.get("/metrics").await;
    let mut lines = text.as_str().unwrap().lines();
    let value = lines.find_map(|line| line.strip_prefix(&format!("compute_ctl_lfc_{name}_total ")));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_offloaded_can_be_prewarmed() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        let (bed, compute) = start(server, &storage).await;
        for name in ["prewarms", "prewarm_errors", "offloads", "offload_errors"] {
            assert_eq!(metric(&compute, name).await, 0, "{name}");
        }
        assert_eq!(compute.get("/lfc/prewarm").await.1, json!({"status": "not_prewarmed"}));
        assert_eq!(compute.get("/lfc/offload").await.1, json!({"status": "not_offloaded"}));
        let object = |endpoint: &str| {
            format!("/{}/{}/{endpoint}/lfc_state", bed.spec.tenant_id, bed.spec.timeline_id)
        };

        // Neither a stored state nor a state to store.
        assert_eq!(prewarm(&compute).await, json!({"status": "skipped"}));
        assert_eq!(offload(&compute).await, json!({"status": "skipped"}));
        assert_eq!(storage.lines(), [format!("GET {}", object("ep-own"))]);

        storage.reply(Reply::Answer(200, Vec::new()));
        set(&compute, &format!("state = '\\x{}'", hex(CACHE_STATE))).await;
        let state = offload(&compute).await;
        assert_eq!(state["status"], "completed", "{state}");
        for member in ["state_query_time_ms", "compress_time_ms", "state_upload_time_ms"] {
            assert!(state[member].is_u64(), "{state}");
        }
        let put = storage.wait_for(2).await;
        assert_eq!(put.line, format!("PUT {}", object("ep-own")));
        assert_eq!(put.header("authorization").unwrap(), format!("Bearer {STORAGE_TOKEN}"));
        assert_eq!(put.header("content-type"), None);
        assert_eq!(put.body[..4], ZSTD_MAGIC);
        assert_eq!(zstd::decode_all(put.body.as_slice()).unwrap(), CACHE_STATE);

        storage.reply(Reply::Answer(200, put.body));
        let state = prewarm(&compute).await;
        assert_eq!(state["status"], "completed", "{state}");
        assert_eq!([&state["total"], &state["prewarmed"], &state["skipped"]], [40, 31, 9]);
        for member in ["state_download_time_ms", "uncompress_time_ms", "prewarm_time_ms"] {
            assert!(state[member].is_u64(), "{state}");
        }
        let get = storage.wait_for(3).await;
        assert_eq!(get.header("authorization").unwrap(), format!("Bearer {STORAGE_TOKEN}"));
        let call = "SELECT encode(state, 'hex') || ' ' || workers || ' ' || name FROM neon.calls";
        let expected = format!("{} 1 compute_ctl:apply_config", hex(CACHE_STATE));
        assert_eq!(compute.sql_text(call).await, expected);

        // The state of another endpoint, whatever its name.
        for (query, part) in [("other", "other"), ("..%2Fx%3Fy", "..%2Fx%3Fy")] {
            let path = format!("/lfc/prewarm?from_endpoint={query}");
            assert_eq!(post(&compute, &path).await, 202);
            assert_eq!(outcome(&compute, "/lfc/prewarm").await["status"], "completed");
            assert_eq!(storage.lines().pop().unwrap(), format!("GET {}", object(part)));
        }
        for query in ["?", "?x=1"] {
            let (code, text) = compute.post(&format!("/lfc/prewarm{query}"), None).await;
            assert_eq!(code.as_u16(), 400);
            let text = text["error"].as_str().unwrap();
            assert!(text.contains("missing field `from_endpoint`"), "{text}");
        }
        assert_eq!(metric(&compute, "prewarms").await, 4);
        assert_eq!(metric(&compute, "offloads").await, 2);
        assert_eq!(metric(&compute, "prewarm_errors").await, 0);
        assert_eq!(metric(&compute, "offload_errors").await, 0);
        finish(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn whatever_the_storage_does() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        let (bed, compute) = start(server, &storage).await;
        set(&compute, &format!("state = '\\x{}'", hex(CACHE_STATE))).await;
        let good = compressed_cache();
        let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 600 << 20), 1).unwrap();
        let cases = [
            (Reply::Answer(500, Vec::new()), "500 Internal Server Error querying endpoint storage"),
            (Reply::Answer(503, Vec::new()), "503 Service Unavailable querying endpoint storage"),
            (Reply::Reset, "querying endpoint storage: "),
            (Reply::Truncated(good.clone()), "getting request body from endpoint storage: "),
            (Reply::Lie(2 << 30, good.clone()), "getting request body from endpoint storage: "),
            (Reply::Answer(200, b"<html>".to_vec()), "decoding LFC state: "),
            (Reply::Answer(200, good[..good.len() - 3].to_vec()), "decoding LFC state: "),
            (Reply::Answer(200, bomb), "decoding LFC state: it has more than"),
        ];
        for (number, (reply, text)) in cases.into_iter().enumerate() {
            storage.reply(reply);
            let state = prewarm(&compute).await;
            assert_eq!(state["status"], "failed", "{state}");
            assert!(state["error"].as_str().unwrap().starts_with(text), "{text}: {state}");
            assert_eq!(metric(&compute, "prewarm_errors").await, number as u64 + 1);
        }
        assert_eq!(compute.sql_text("SELECT count(*) FROM neon.calls").await, "0");
        for (reply, text) in [
            (Reply::Answer(500, Vec::new()), "request to endpoint storage failed: 500 Internal"),
            (Reply::Answer(204, Vec::new()), "request to endpoint storage failed: 204 No Content"),
            (Reply::Reset, "writing to endpoint storage: "),
        ] {
            storage.reply(reply);
            let state = offload(&compute).await;
            assert_eq!(state["status"], "failed", "{state}");
            assert!(state["error"].as_str().unwrap().starts_with(text), "{text}: {state}");
        }
        assert_eq!(metric(&compute, "offload_errors").await, 3);

        // One of each kind at a time; the two kinds do not exclude each other.
        storage.reply(Reply::Answer(200, good).held());
        let before = storage.count();
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        assert_eq!(post(&compute, "/lfc/offload").await, 202);
        storage.wait_for(before + 2).await;
        let text = "Multiple requests for prewarm are not allowed";
        let (code, answer) = compute.post("/lfc/prewarm", None).await;
        assert_eq!((code.as_u16(), answer), (429, json!({"error": text})));
        let text = "Multiple requests for prewarm offload are not allowed";
        let (code, answer) = compute.post("/lfc/offload", None).await;
        assert_eq!((code.as_u16(), answer), (429, json!({"error": text})));
        storage.release();
        assert_eq!(outcome(&compute, "/lfc/prewarm").await["status"], "completed");
        assert_eq!(outcome(&compute, "/lfc/offload").await["status"], "completed");

        // Without the functions in Postgres.
        compute.sql().await.batch_execute("DROP SCHEMA neon CASCADE").await.unwrap();
        storage.reply(Reply::Answer(200, compressed_cache()));
        let error = prewarm(&compute).await["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("loading LFC state into postgres: "), "{error}");
        let error = offload(&compute).await["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("querying LFC state: "), "{error}");
        compute.wait_for_log("could not prewarm the local file cache").await;
        assert_eq!(compute.get("/status").await.1["status"], "running");
        finish(compute, &bed).await;
    })
    .await;
}

/// A backend of the prewarm.
pub const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE state = 'active' AND query LIKE '%neon.prewarm_local_cache%' AND pid <> pg_backend_pid()";

#[tokio::test]
async fn cancelling_works_at_every_point_and_only_there() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(200, compressed_cache())).await;
        let (bed, compute) = start(server, &storage).await;

        // Without a prewarm to cancel.
        assert_eq!(cancel(&compute).await, 202);
        assert_eq!(prewarm(&compute).await["status"], "completed");

        // While the storage is silent.
        let before = storage.count();
        storage.reply(Reply::Answer(200, compressed_cache()).held());
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        storage.wait_for(before + 1).await;
        assert_eq!(cancel(&compute).await, 202);
        let cancelled = json!({"status": "cancelled"});
        assert_eq!(outcome(&compute, "/lfc/prewarm").await, cancelled);

        // While the rest of the body does not come.
        storage.reply(Reply::Stalled(compressed_cache()));
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        storage.wait_for(before + 2).await;
        assert_eq!(cancel(&compute).await, 202);
        assert_eq!(outcome(&compute, "/lfc/prewarm").await, cancelled);
        storage.release();
        storage.reply(Reply::Answer(200, compressed_cache()));

        // While Postgres works on it: once the state says so, it has stopped.
        set(&compute, "seconds = 3600").await;
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        compute.wait_for_sql(AT_WORK, "1").await;
        assert_eq!(cancel(&compute).await, 202);
        assert_eq!(outcome(&compute, "/lfc/prewarm").await, cancelled);
        assert_eq!(compute.sql_text(AT_WORK).await, "0");

        // Too late for that prewarm, too early for the next one.
        set(&compute, "seconds = 0").await;
        assert_eq!(cancel(&compute).await, 202);
        assert_eq!(prewarm(&compute).await["status"], "completed");
        assert_eq!(metric(&compute, "prewarms").await, 5);
        assert_eq!(metric(&compute, "prewarm_errors").await, 0);
        finish(compute, &bed).await;
    })
    .await;
}

/// A periodic offload never replaces a complete state with a partial one.
#[tokio::test]
async fn the_interval_waits_for_the_prewarm() {
    on_one_server(|server| async {
        let storage = HttpStub::start(Reply::Answer(200, compressed_cache()).held()).await;
        let mut bed = Bed::new(server).await;
        use_storage(&mut bed, &storage.address);
        bed.spec
            .member("autoprewarm", json!(true))
            .member("offload_lfc_interval_seconds", json!(1));
        let mut compute = bed.start_with_env(&[("RUST_LOG", "debug")]);
        compute.wait_for("running").await;
        compute.sql().await.batch_execute(CACHE_FUNCTIONS).await.unwrap();
        set(&compute, &format!("state = '\\x{}'", hex(CACHE_STATE))).await;
        assert!(storage.wait_for(1).await.line.starts_with("GET "));
        assert_eq!(compute.get("/lfc/prewarm").await.1, json!({"status": "prewarming"}));
        compute.wait_for_log_times("no offload, the prewarm is Prewarming", 2).await;
        assert_eq!(storage.count(), 1);

        // Prewarmed: the interval is obeyed, from now on with the values of `/configure`.
        storage.reply(Reply::Answer(200, Vec::new()));
        storage.release();
        assert_eq!(outcome(&compute, "/lfc/prewarm").await["status"], "completed");
        assert!(storage.wait_for(3).await.line.starts_with("PUT "));
        bed.spec.member("endpoint_id", json!("ep-new"));
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200);
        eventually("an offload of the new spec", || {
            storage.lines().iter().any(|line| line.contains("/ep-new/"))
        })
        .await;

        // After a partial prewarm only a request stores the state.
        storage.reply(Reply::Answer(500, Vec::new()));
        assert_eq!(prewarm(&compute).await["status"], "failed");
        let _ = outcome(&compute, "/lfc/offload").await;
        let before = storage.count();
        compute.wait_for_log_times("no offload, the prewarm is Failed", 2).await;
        assert_eq!(storage.count(), before);
        storage.reply(Reply::Answer(200, Vec::new()));
        assert_eq!(offload(&compute).await["status"], "completed");
        assert_eq!(storage.count(), before + 1);
        finish(compute, &bed).await;
    })
    .await;
}

/// A prewarm that begins while a periodic offload waits for its state, and that may end before the
/// state arrives.
#[tokio::test]
async fn a_state_that_was_asked_for_too_early_is_not_stored() {
    on_one_server(|server| async {
        let answer = Reply::Answer(200, compressed_cache());
        let storage = HttpStub::start(answer.clone().held()).await;
        let mut bed = Bed::new(server).await;
        use_storage(&mut bed, &storage.address);
        bed.spec.member("offload_lfc_interval_seconds", json!(1));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        // The state arrives when a lock is released.
        let slow = "CREATE OR REPLACE FUNCTION neon.get_local_cache_state(max_chunks int DEFAULT NULL) \
             RETURNS bytea LANGUAGE sql AS \
             $$SELECT pg_catalog.pg_advisory_xact_lock(7); SELECT '\\x00'::bytea$$";
        let holder = compute.sql().await;
        holder.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
        holder.batch_execute(&format!("BEGIN; {CACHE_FUNCTIONS}; {slow}; COMMIT")).await.unwrap();
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        // A waiting request comes first; the offload after it waits again.
        let let_go = "SELECT pg_advisory_unlock(7); SELECT pg_advisory_lock(7)";
        compute.wait_for_sql(waits, "1").await;
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        storage.wait_for(1).await;
        holder.batch_execute(let_go).await.unwrap();
        compute.wait_for_log("so no state is stored").await;
        let state = outcome(&compute, "/lfc/offload").await;
        // Unchanged; ticks before the stand-ins existed have failed.
        assert!(["not_offloaded", "failed"].contains(&state["status"].as_str().unwrap()), "{state}");

        storage.reply(answer);
        storage.release();
        assert_eq!(outcome(&compute, "/lfc/prewarm").await["status"], "completed");
        compute.wait_for_sql(waits, "1").await;
        assert_eq!(prewarm(&compute).await["status"], "completed");
        holder.batch_execute(let_go).await.unwrap();
        compute.wait_for_log_times("so no state is stored", 2).await;
        assert!(storage.lines().iter().all(|line| line.starts_with("GET ")), "{:?}", storage.lines());
        finish(compute, &bed).await;
    })
    .await;
}

/// A request that comes too early or too late gets an answer, and the compute continues.
#[tokio::test]
async fn without_a_spec_and_without_postgres() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        for path in ["/lfc/prewarm", "/lfc/offload"] {
            let (code, answer) = compute.post(path, None).await;
            assert_eq!(code.as_u16(), 412);
            assert_eq!(answer, json!({"error": "invalid compute status: empty"}));
        }
        assert_eq!(cancel(&compute).await, 202);

        // Missing members of the spec are reported in order.
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200);
        let missing = "pspec.endpoint_id missing, other endpoint_id not provided";
        assert_eq!(prewarm(&compute).await, json!({"status": "failed", "error": missing}));
        assert_eq!(offload(&compute).await, json!({"status": "failed", "error": missing}));
        assert_eq!(metric(&compute, "prewarm_errors").await, 1);

        // A silent storage does not keep the compute from ending.
        let silent = SilentPort::open();
        use_storage(&mut bed, &silent.address());
        let (code, _) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200);
        assert_eq!(post(&compute, "/lfc/prewarm").await, 202);
        finish(compute, &bed).await;

        // A start that has failed.
        let storage = HttpStub::start(Reply::Answer(200, compressed_cache())).await;
        use_storage(&mut bed, &storage.address);
        bed.safekeepers[0].behave(|safekeeper| safekeeper.commit_lsn -= 8);
        bed.wrapper.set_mode(SyncMode::Exit(7)).unwrap();
        let mut compute = bed.start();
        compute.wait_for_failure().await;
        for state in [prewarm(&compute).await, offload(&compute).await] {
            let error = state["error"].as_str().unwrap();
            assert!(error.starts_with("connecting to postgres: "), "{state}");
        }
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}
