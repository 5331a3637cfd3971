//! The access log (01 §20.1, 03 §3.2): what is in it, at which level, and what is never in it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tracing::Level;
use tracing::subscriber::DefaultGuard;

use super::bed::{Answer, Api};
use crate::http::testing::{OTHER_ED_KEY, sign};
use crate::node::readiness::Unready;
use crate::state::Event;

/// Collects the log lines of this thread.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects until the guards are dropped.
    fn collect(&self, level: Level) -> (DefaultGuard, tracing::Dispatch) {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let subscriber = subscriber.with_ansi(false).with_max_level(level).finish();
        // While there is only one subscriber, a log statement that another test's thread reaches
        // first is switched off for all threads, because that thread has none. A second one
        // prevents it.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (tracing::subscriber::set_default(subscriber), second)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    /// Number of lines with all of these parts.
    fn count(&self, parts: &[&str]) -> usize {
        let has = |line: &&str| parts.iter().all(|part| line.contains(part));
        self.text().lines().filter(has).count()
    }
}

/// A value that no line may repeat.
const PLANTED: &str = "planted-secret";

/// Never a token, not even at the finest level (03 W6).
#[tokio::test]
async fn the_level_is_that_of_the_outcome() {
    let log = Log::default();
    let guards = log.collect(Level::TRACE);
    let api = Api::start();
    let forged = sign(&OTHER_ED_KEY, &json!({"compute_id": "c1"}));
    let server = api.external(&format!("/status?jwt={PLANTED}"));
    let request = api.client.get(server).bearer_auth(&forged).header("x-request-id", "abc");
    assert_eq!(Answer::of(request).await.code, 401);
    assert_eq!(api.get("/status").await.code, 200);
    assert_eq!(api.refresh().await.code, 500);
    assert_eq!(Answer::of(api.client.get(api.external("/nope"))).await.code, 404);
    drop(guards);

    let text = log.text();
    let span = "HTTP{http.request.method=GET url.path=/status}";
    assert_eq!(log.count(&["INFO", span, "GET /status?jwt=REDACTED request_id=abc"]), 1, "{text}");
    let refused = "answering 401: \"failed to verify authorization token\" request_id=abc code=401";
    assert_eq!(log.count(&["WARN", span, refused, " latency="]), 1, "{text}");
    assert_eq!(log.count(&["INFO", span, "code=200 latency="]), 1, "{text}");
    assert_eq!(log.count(&["ERROR", "answering 500: \"Cannot refresh", "code=500 latency="]), 1);
    assert_eq!(log.count(&["WARN", "answering 404: ", "code=404 latency="]), 1, "{text}");
    assert_eq!(log.count(&["ERROR"]), 1, "{text}");
    // Two lines for each of the four requests.
    assert_eq!(log.count(&["request_id="]), 8, "{text}");
    assert_eq!(log.count(&["latency=", "ms"]), 4, "{text}");
    assert!(!text.contains(PLANTED), "{text}");
    for token in [&forged, &api.token] {
        let signature = token.rsplit_once('.').unwrap().1;
        assert!(!text.contains(signature), "{text}");
    }
}

/// Probes and scrapes leave no lines at the usual level, whatever they are answered; a change of
/// readiness leaves one.
#[tokio::test]
async fn probes_are_quiet_and_changes_are_not() {
    let log = Log::default();
    let guards = log.collect(Level::INFO);
    let api = Api::start();
    let probe = async |ready: u16| {
        for _ in 0..5 {
            for (path, code) in [("/live", 200), ("/ready", ready), ("/metrics", 200)] {
                let answer = Answer::of(api.client.get(api.external(path))).await;
                assert_eq!(answer.code, code, "{path}");
                let answer = Answer::of(api.client.head(api.external(path))).await;
                assert_eq!(answer.code, code, "{path}");
            }
            let answer = Answer::of(api.client.get(api.external("/startup"))).await;
            assert!([200, 503].contains(&answer.code));
        }
    };
    probe(503).await;
    api.node.begin_start().unwrap();
    probe(503).await;
    api.node.apply(Event::Succeeded).unwrap();
    probe(200).await;
    for _ in 0..3 {
        api.node.readiness.does_not_answer(Unready::NoAnswer, &"no answer within 3s");
        probe(503).await;
    }
    api.node.readiness.answers();
    probe(200).await;
    api.node.apply(Event::Signal).unwrap();
    probe(503).await;
    // Not a probe: another method, and another server.
    assert_eq!(Answer::of(api.client.post(api.external("/ready"))).await.code, 405);
    assert_eq!(Answer::of(api.client.get(api.internal("/ready"))).await.code, 404);
    drop(guards);

    let text = log.text();
    assert_eq!(log.count(&["INFO", "ready: Postgres serves"]), 2, "{text}");
    let down = "not ready: Postgres does not answer; the log says why: no answer within 3s";
    assert_eq!(log.count(&["WARN", down]), 1, "{text}");
    assert_eq!(log.count(&["INFO", "not ready: the compute is ending"]), 1, "{text}");
    assert_eq!(log.count(&["not ready"]), 2, "{text}");
    assert_eq!(log.count(&["ERROR"]), 0, "{text}");
    assert_eq!(log.count(&["latency="]), 2, "{text}");
    assert_eq!(log.count(&["WARN", "answering 405", "latency="]), 1, "{text}");
    assert_eq!(log.count(&["WARN", "answering 404", "latency="]), 1, "{text}");
}

/// A request without a token is cut in the log, and its path is logged once.
#[tokio::test]
async fn a_request_without_a_token_is_cut() {
    let log = Log::default();
    let guards = log.collect(Level::INFO);
    let api = Api::start();
    let long = "x".repeat(25_000);
    for path in [format!("/{long}"), format!("/extension_server/{long}?is_library={long}")] {
        let request = api.client.post(api.internal(&path)).header("x-request-id", "x".repeat(5000));
        let answer = Answer::of(request).await;
        assert!(answer.code >= 400);
        assert_eq!(answer.header("x-request-id").len(), 36, "a fresh one");
    }
    drop(guards);
    let text = log.text();
    let runs: Vec<_> =
        text.split(|c: char| c != 'x').map(str::len).filter(|run| *run > 20).collect();
    assert!(runs.iter().all(|run| *run <= 256), "{text}");
    assert_eq!(log.count(&["POST /"]), 2, "{text}");
    assert!(text.contains("... (25001 bytes)"), "{text}");
    assert!(text.len() < 3000, "{text}");
}
