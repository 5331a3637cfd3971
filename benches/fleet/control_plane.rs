//! A control plane that gives each compute its configuration, counts, and can be away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Default)]
struct Shared {
    /// The configuration of each compute.
    configurations: HashMap<String, Value>,
    away: AtomicBool,
    requests: Mutex<Vec<Instant>>,
}

/// Serves until the runtime ends.
pub struct ControlPlane {
    pub url: String,
    shared: Arc<Shared>,
}

impl ControlPlane {
    pub async fn start(configurations: HashMap<String, Value>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared { configurations, ..Shared::default() });
        let router = Router::new()
            .route("/compute/api/v2/computes/{id}/spec", get(spec))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, shared })
    }

    pub fn set_away(&self, away: bool) {
        self.shared.away.store(away, Relaxed);
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.lock().len()
    }

    /// Requests in each interval after `since`, up to the last one.
    pub fn requests_since(&self, since: Instant, interval: Duration) -> Vec<usize> {
        let mut counts = Vec::new();
        for request in self.shared.requests.lock().iter() {
            let Some(after) = request.checked_duration_since(since) else { continue };
            let index = (after.as_secs_f64() / interval.as_secs_f64()) as usize;
            if counts.len() <= index {
                counts.resize(index + 1, 0);
            }
            if let Some(count) = counts.get_mut(index) {
                *count += 1;
            }
        }
        counts
    }
}

async fn spec(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> (StatusCode, axum::Json<Value>) {
    shared.requests.lock().push(Instant::now());
    if shared.away.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({"error": "away"})));
    }
    match shared.configurations.get(&id) {
        Some(configuration) => (StatusCode::OK, axum::Json(configuration.clone())),
        None => (StatusCode::NOT_FOUND, axum::Json(json!({"error": "no such compute"}))),
    }
}
