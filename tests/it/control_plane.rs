//! The configuration from a control plane.

use std::sync::{Arc, Mutex};

use axum::extract::Request;
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Bed, Compute, Marked, assert_nothing_left, on_one_server, try_start};

const TOKEN: &str = "cplane-token-4711";

/// Gives its answers in turn, the last one again and again, and notes what it was asked.
struct ControlPlane {
    base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ControlPlane {
    async fn start(answers: Vec<(u16, String)>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let handler = async move |request: Request| {
            let header = request.headers().get("authorization").map(|h| h.to_str().unwrap());
            let (method, path) = (request.method(), request.uri().path());
            let mut noted = noted.lock().unwrap();
            noted.push(format!("{method} {path} {}", header.unwrap_or("-")));
            let (code, body) = answers[(noted.len() - 1).min(answers.len() - 1)].clone();
            (StatusCode::from_u16(code).unwrap(), body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/cp", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, asked }
    }

    /// The flags, and the environment, of a compute that asks here.
    fn args(&self, bed: &Bed) -> Vec<String> {
        let mut line = bed.base_args();
        line.extend(["-p", &self.base, "-i", "c1"].map(str::to_owned));
        line
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const ENV: [(&str, &str); 1] = [("NEON_CONTROL_PLANE_TOKEN", TOKEN)];
const QUESTION: &str = "GET /cp/compute/api/v2/computes/c1/spec Bearer cplane-token-4711";

fn answer(bed: &Bed, status: &str, spec: Value) -> String {
    json!({"status": status, "spec": spec, "compute_ctl_config": {"jwks": bed.spec.jwks}})
        .to_string()
}

#[tokio::test]
async fn an_attached_compute_starts() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let cplane = ControlPlane::start(vec![
            (503, "later".to_owned()),
            (200, answer(&bed, "attached", bed.spec.spec())),
        ])
        .await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ENV);
        let seen = compute.wait_for("running").await;
        assert!(!seen.contains(&"empty".to_owned()), "{seen:?}");
        assert_eq!(cplane.asked(), [QUESTION, QUESTION]);
        // The extension in Postgres sends the same token.
        let environment = std::fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        let wanted = format!("NEON_CONTROL_PLANE_TOKEN={TOKEN}");
        assert!(environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes()));
        assert!(!compute.log().contains(TOKEN), "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_unattached_compute_waits_for_its_spec() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let cplane = ControlPlane::start(vec![(200, answer(&bed, "empty", Value::Null))]).await;
        let mut compute = Compute::spawn(&bed, &cplane.args(&bed), &ENV);
        compute.wait_for("empty").await;
        assert_eq!(cplane.asked(), [QUESTION]);
        let (code, answer) = compute.post("/configure", Some(&bed.configure_body())).await;
        assert_eq!((code.as_u16(), &answer["status"]), (200, &json!("running")), "{answer}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn without_a_usable_answer_nothing_starts() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let mut bad_spec = bed.spec.spec();
        bad_spec["tenant_id"] = json!("51b0");
        let cases = [
            ((404, String::new()), 1, "the control plane answered 404"),
            ((401, String::new()), 1, "the control plane answered 401"),
            ((500, String::new()), 1, "the control plane answered 500"),
            ((502, String::new()), 3, "Exhausted all attempts"),
            ((200, "{".to_owned()), 3, "Exhausted all attempts"),
            ((200, answer(&bed, "attached", bad_spec)), 3, "spec.tenant_id: "),
            (
                (200, answer(&bed, "attached", Value::Null)),
                1,
                "compute is attached, but spec is empty",
            ),
        ];
        for (answer, tries, text) in cases {
            let cplane = ControlPlane::start(vec![answer]).await;
            let refusal = try_start(&bed, &cplane.args(&bed), &ENV).await;
            assert!(refusal.error().contains(text), "{}", refusal.stderr);
            assert!(!refusal.stderr.contains(TOKEN), "{}", refusal.stderr);
            assert_eq!(cplane.asked(), vec![QUESTION; tries], "{text}");
        }
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}
