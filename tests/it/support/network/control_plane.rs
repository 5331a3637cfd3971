//! A control plane: one document for one compute, and a record of its requests.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Request;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::bed::Bed;

const TOKEN: &str = "cplane-token-4711";

/// Gives its answers in turn, repeats the last one, and records the requests.
pub struct ControlPlane {
    base: String,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    /// Answers that remain.
    answers: Vec<(u16, String)>,
    asked: Vec<String>,
}

impl ControlPlane {
    /// The token, which a compute must have in its environment only.
    pub const TOKEN: &str = TOKEN;
    /// The environment variable with the token.
    pub const ENV: [(&str, &str); 1] = [("NEON_CONTROL_PLANE_TOKEN", TOKEN)];
    /// The request line of a compute.
    pub const QUESTION: &str = "GET /cp/compute/api/v2/computes/c1/spec Bearer cplane-token-4711";

    pub async fn start(answers: Vec<(u16, String)>) -> Self {
        let script = Arc::new(Mutex::new(Script { answers, asked: Vec::new() }));
        let handled = Arc::clone(&script);
        let handler = async move |request: Request| {
            let header = request.headers().get("authorization").map(|h| h.to_str().unwrap());
            let (method, path) = (request.method(), request.uri().path());
            let mut script = handled.lock().unwrap_or_else(PoisonError::into_inner);
            script.asked.push(format!("{method} {path} {}", header.unwrap_or("-")));
            let last = script.answers.len() <= 1;
            let (code, body) =
                if last { script.answers[0].clone() } else { script.answers.remove(0) };
            (StatusCode::from_u16(code).unwrap(), body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/cp", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, script }
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://").trim_end_matches("/cp")
    }

    /// Sets the answers from now on.
    pub fn answer(&self, answers: Vec<(u16, String)>) {
        self.script.lock().unwrap().answers = answers;
    }

    /// Flags of a compute that asks here.
    pub fn args(&self, bed: &Bed) -> Vec<String> {
        bed.args_for(&self.base)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.clone()
    }
}

/// A control plane's document.
pub fn answer(bed: &Bed, status: &str, spec: Value) -> String {
    json!({"status": status, "spec": spec, "compute_ctl_config": {"jwks": bed.spec.jwks}})
        .to_string()
}
