//! `compute_ctl status`, `wait`, `refresh`, `metrics` and `terminate`: exit codes, what is printed, deadlines.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, EdKey};
use crate::support::network::SilentPort;
use crate::support::process::{Compute, client};
use crate::support::server::on_one_server;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_REACHED: i32 = 3;
const TIMEOUT: i32 = 4;
const REFUSED: i32 = 5;
const WRONG_STATUS: i32 = 6;

/// A compute that requires tokens, and the files of a good and a bad token.
struct Guarded {
    bed: Bed,
    good: String,
    bad: String,
}

impl Guarded {
    async fn new(server: compute_ctl::dev::servers::Server) -> Self {
        let mut bed = Bed::new(server).await;
        let key = EdKey::new();
        bed.spec.jwks = json!({"keys": [key.jwk()]});
        let file = |name: &str, key: &EdKey| {
            let token = key.sign(&json!({"compute_id": "c1"}));
            bed.write_text(name, &format!("{token}\n")).display().to_string()
        };
        let (good, bad) = (file("good", &key), file("bad", &EdKey::new()));
        Self { bed, good, bad }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.bed.external_port)
    }
}

async fn expect(args: &[&str], code: i32) -> (String, String) {
    let ran = client(args).await;
    assert_eq!(ran.code, Some(code), "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
    if code == OK {
        assert_eq!(ran.stderr, "", "{args:?}");
    } else {
        assert!(ran.stderr.starts_with("Error: ") || code == USAGE, "{}", ran.stderr);
        // The output is one line in every case.
        assert!(code == USAGE || ran.stderr.ends_with('\n'), "{}", ran.stderr);
    }
    (ran.stdout, ran.stderr)
}

#[tokio::test]
async fn a_life_through_the_client() {
    on_one_server(|server| async {
        let guarded = Guarded::new(server).await;
        let (url, bed) = (guarded.url(), &guarded.bed);
        let target = ["--url", &url, "--token-file", &guarded.good];
        let with = |command: &[&'static str]| -> Vec<String> {
            let own = target.iter().map(ToString::to_string);
            command.iter().map(ToString::to_string).chain(own).collect()
        };
        let run = async |command: &[&'static str], code| {
            let args = with(command);
            expect(&args.iter().map(String::as_str).collect::<Vec<_>>(), code).await
        };

        // The server does not listen yet.
        let (_, error) = run(&["status"], NOT_REACHED).await;
        let refused = "could not reach the compute: Connection refused (os error 111); is a \
                       compute running there? --url gives another address";
        assert_eq!(error, format!("Error: {url}: {refused}\n"));
        run(&["wait", "--timeout", "100ms"], NOT_REACHED).await;
        run(&["wait", "--for", "ready", "--timeout", "100ms"], NOT_REACHED).await;
        run(&["terminate"], NOT_REACHED).await;

        // The client begins to wait before the compute is started.
        let waiting = run(&["wait", "--for", "running", "--timeout", "30s", "--json"], OK);
        let (mut compute, (document, _)) = tokio::join!(async { bed.start() }, waiting);
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["status"], "running");

        let (text, _) = run(&["status"], OK).await;
        assert!(text.starts_with("status       running\nsince        "), "{text}");
        for part in [
            "\nready        yes\n",
            "c1, primary, PostgreSQL",
            "start (process started): success",
            "ms |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let (text, _) = run(&["status", "--json"], OK).await;
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["tenant"], bed.spec.tenant_id.as_str());
        run(&["wait"], OK).await;
        let (_, error) = run(&["wait", "--for", "empty", "--timeout", "300ms"], TIMEOUT).await;
        let text = "the compute did not become empty within 300ms, its status is running";
        assert_eq!(error, format!("Error: {url}: {text}\n"));

        // Without a token, and without a scheme.
        let short = url.strip_prefix("http://").unwrap();
        let (text, _) = expect(&["wait", "--for", "ready", "--url", short], OK).await;
        assert_eq!(text, "ready\n");
        let internal = format!("127.0.0.1:{}", bed.internal_port);
        // The internal server has it without a token.
        let (text, _) = expect(&["status", "--url", &internal], OK).await;
        assert!(text.starts_with("status       running\n"), "{text}");
        for command in [&["wait"][..], &["wait", "--for", "ready"], &["terminate"]] {
            let (_, error) = expect(&[command, &["--url", &internal]].concat(), FAILED).await;
            assert!(
                error.starts_with(&format!("Error: http://{internal}: the compute answered 404"))
            );
            assert!(error.contains("the external server has it, on another port"), "{error}");
            assert!(error.contains("--url needs the external server"), "{error}");
        }

        // Metrics need no token, except as JSON. A refresh goes to the other server.
        let (text, _) = expect(&["metrics", "--url", &url], OK).await;
        assert!(text.contains("\ncompute_ctl_up{"), "{text}");
        let ran = client(&["metrics", "--json", "--url", &url]).await;
        assert_eq!(ran.code, Some(REFUSED), "{ran:?}");
        let (text, _) = run(&["metrics", "--json"], OK).await;
        let document: Value = serde_json::from_str(&text).unwrap();
        assert!(document["total_startup_ms"].as_u64().unwrap() > 0, "{document}");
        let (text, _) = expect(&["refresh", "--url", &internal], OK).await;
        assert_eq!(text, "");
        run(&["wait"], OK).await;
        let (_, error) = expect(&["refresh", "--url", &url], FAILED).await;
        assert!(error.contains("--url needs the internal server"), "{error}");

        // A client without permission.
        let (_, error) = expect(&["status", "--url", &url], REFUSED).await;
        assert!(error.contains("invalid authorization token"), "{error}");
        let bad = ["--url", &url, "--token-file", &guarded.bad];
        for command in [["status", "--json"], ["wait", "--json"], ["terminate", "--json"]] {
            let args = [&command[..], &bad[..]].concat();
            let ran = client(&args).await;
            assert_eq!(ran.code, Some(REFUSED), "{ran:?}");
            let error: Value = serde_json::from_str(&ran.stderr).unwrap();
            assert_eq!(error["code"], REFUSED);
            let token = std::fs::read_to_string(&guarded.bad).unwrap();
            assert!(!format!("{ran:?}").contains(token.trim()));
        }
        let (_, error) =
            expect(&["status", "--url", &url, "--token-file", "/nonexistent"], FAILED).await;
        assert!(error.contains("could not read the token file /nonexistent"), "{error}");

        // The end, seen by `wait` and by `terminate`.
        let ended = run(&["wait", "--for", "terminated", "--timeout", "30s"], OK);
        let terminated = run(&["terminate", "--mode", "fast"], OK);
        let (_, (text, _)) = tokio::join!(ended, terminated);
        assert_eq!(text, "terminated at LSN 0/1F30EC8\n");
        let (text, _) = run(&["terminate", "--json"], OK).await;
        assert_eq!(text, "{\"lsn\":\"0/1F30EC8\"}\n");
        let (_, error) = expect(&["refresh", "--url", &internal], WRONG_STATUS).await;
        assert!(error.contains("in state Terminated"), "{error}");
        let args = ["wait", "--for", "ready", "--timeout", "3s"];
        let (_, error) = run(&args, TIMEOUT).await;
        let text = "did not become ready within 3s, it is not ready: the compute is ending\n";
        assert!(error.ends_with(text), "{error}");
        let (_, error) = run(&["wait", "--for", "running"], FAILED).await;
        assert!(error.contains("the compute has ended"), "{error}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(bed);
    })
    .await;
}

#[tokio::test]
async fn a_failed_compute_and_one_that_is_not_so_far() {
    on_one_server(|server| async {
        let mut guarded = Guarded::new(server).await;
        guarded.bed.spec.set("no_such_setting_anywhere", "x");
        let url = guarded.url();
        let mut compute = guarded.bed.start();
        let own = ["--url", &url, "--token-file", &guarded.good];
        let (_, error) = expect(&[&["wait"][..], &own].concat(), FAILED).await;
        assert!(error.contains("the compute has failed: Postgres exited"), "{error}");
        let (text, _) = expect(&[&["status"][..], &own].concat(), FAILED).await;
        assert!(text.starts_with("status       failed\n"), "{text}");
        assert!(text.contains("in start_postgres\nadvice       Read the last lines"), "{text}");
        let args = [&["terminate", "--mode", "immediate"][..], &own].concat();
        assert!(expect(&args, OK).await.0.starts_with("terminated"));
        assert_eq!(compute.wait_exit().await.code(), Some(1));

        // A compute that is starting cannot be terminated by request.
        guarded.bed.spec.settings.shift_remove("no_such_setting_anywhere");
        let fault = compute_ctl::dev::pageserver::Fault::StallAfter(100_000);
        guarded.bed.pageserver.set_fault(fault, None);
        let mut compute: Compute = guarded.bed.start();
        compute.wait_for_log("HTTP servers are listening").await;
        let (_, error) = expect(&[&["terminate"][..], &own].concat(), WRONG_STATUS).await;
        assert!(error.contains("invalid compute status: init"), "{error}");
        let args = [&["wait", "--timeout", "200ms"][..], &own].concat();
        assert!(expect(&args, TIMEOUT).await.1.contains("its status is init"));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&guarded.bed);
    })
    .await;
}

/// Whatever program answers in place of a compute, the client ends in time.
#[tokio::test]
async fn strangers() {
    let silent = SilentPort::open();
    let url = format!("http://{}", silent.address());
    expect(&["status", "--url", &url, "--timeout", "200ms"], TIMEOUT).await;
    expect(&["terminate", "--url", &url, "--timeout", "200ms"], TIMEOUT).await;
    expect(&["wait", "--url", &url, "--timeout", "700ms"], TIMEOUT).await;
    expect(&["wait", "--for", "ready", "--url", &url, "--timeout", "700ms"], TIMEOUT).await;

    let hangs_up = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", hangs_up.local_addr().unwrap());
    let thread = std::thread::spawn(move || drop(hangs_up.accept()));
    expect(&["status", "--url", &url], FAILED).await;
    thread.join().unwrap();

    // A program that is not a compute, and one that sends more than any compute would.
    let app = axum::Router::new()
        .route("/status", axum::routing::get(async || "hello"))
        .route("/large/status", axum::routing::get(async || " ".repeat(65 << 20)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (_, error) = expect(&["status", "--url", &url], FAILED).await;
    assert!(error.contains("is not a status document"), "{error}");
    let (_, error) = expect(&["status", "--url", &format!("{url}/large/")], FAILED).await;
    assert!(error.contains("larger than"), "{error}");
    let (_, error) = expect(&["terminate", "--url", &url], FAILED).await;
    assert!(error.contains("404"), "{error}");
}

#[tokio::test]
async fn usage() {
    for args in [
        &["status", "--url", "127.0.0.1:port"][..],
        &["status", "--url", "http://user:secret@127.0.0.1"],
        &["status", "--timeout", "soon"],
        &["wait", "--for", "up"],
        &["terminate", "--mode", "slow"],
        &["status", "--token", "abc"],
    ] {
        let (stdout, _) = expect(args, USAGE).await;
        assert_eq!(stdout, "");
    }
}
