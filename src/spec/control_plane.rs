//! The one question that a compute asks its control plane: "what is my configuration?" (09 §1).

use std::time::Duration;

use reqwest::StatusCode;
use thiserror::Error;

use super::document::{self, DocumentError, Parsed};
use super::wire::{ConfigDocument, ControlPlaneResponse, ControlPlaneStatus};
use crate::errors::one_line;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::secret::Secret;

/// Name of the question in the metrics (03 §10).
const RPC: &str = "GetConfig";

/// Tries in all; the pause follows each failed one.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// Per try, connect to last byte.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Address and credentials of a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// Prefix of the URL; nothing is trimmed (09 §1.1).
    pub base: String,
    /// Last but one part of the path, not encoded.
    pub compute_id: String,
    /// `NEON_CONTROL_PLANE_TOKEN`; sent empty when unset.
    pub token: Secret<String>,
}

/// Why the control plane gave no configuration.
#[derive(Debug, Error)]
pub enum ControlPlaneError {
    /// All tries failed in a way that may pass.
    #[error(
        "Exhausted all attempts to retrieve the config from the control plane, the last one failed: {0}"
    )]
    Exhausted(Box<TryError>),
    /// A failure that trying again cannot mend.
    #[error("could not retrieve the config from the control plane: {0}")]
    Permanent(Box<TryError>),
    /// 09 §1.2.
    #[error("compute is attached, but spec is empty")]
    AttachedWithoutSpec,
}

/// How one try failed.
#[derive(Debug, Error)]
pub enum TryError {
    /// No answer.
    #[error("{0}")]
    Transport(String),
    /// An answer that is not 200.
    #[error("the control plane answered {0}")]
    Status(StatusCode),
    /// A 200 with another document in it.
    #[error("its answer could not be parsed: {0}")]
    Parse(DocumentError),
}

impl TryError {
    /// Retried are lost connections, 502, 503 and answers that do not parse (09 §1.2).
    const fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Parse(_) => true,
            Self::Status(status) => {
                matches!(*status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }
}

/// Fetches the configuration, with retries; each try is counted.
pub async fn fetch(
    control_plane: &ControlPlane,
    metrics: &Metrics,
) -> Result<ConfigDocument, ControlPlaneError> {
    let client = client().map_err(|error| ControlPlaneError::Permanent(Box::new(error)))?;
    let mut tries_left = TRIES;
    loop {
        tries_left = tries_left.saturating_sub(1);
        match fetch_once(&client, control_plane, metrics).await {
            Ok(Parsed { value, unknown_members }) => {
                document::log_unknown_members("the control plane's answer", &unknown_members);
                if value.status == ControlPlaneStatus::Attached && value.spec.is_none() {
                    return Err(ControlPlaneError::AttachedWithoutSpec);
                }
                let ControlPlaneResponse { spec, compute_ctl_config, .. } = value;
                return Ok(ConfigDocument { spec, compute_ctl_config });
            }
            Err(error) if !error.is_transient() => {
                return Err(ControlPlaneError::Permanent(Box::new(error)));
            }
            Err(error) => {
                tracing::warn!("could not retrieve the config from the control plane: {error}");
                tokio::time::sleep(PAUSE).await;
                if tries_left == 0 {
                    return Err(ControlPlaneError::Exhausted(Box::new(error)));
                }
            }
        }
    }
}

fn client() -> Result<reqwest::Client, TryError> {
    // Installed once per process; a second call reports that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| TryError::Transport(one_line(&error)))
}

async fn fetch_once(
    client: &reqwest::Client,
    control_plane: &ControlPlane,
    metrics: &Metrics,
) -> Result<Parsed<ControlPlaneResponse>, TryError> {
    let ControlPlane { base, compute_id, token } = control_plane;
    let url = format!("{base}/compute/api/v2/computes/{compute_id}/spec");
    let authorization = format!("Bearer {}", token.expose());
    let transport = |error: reqwest::Error| TryError::Transport(one_line(&error));
    let answer = client.get(url).header(reqwest::header::AUTHORIZATION, authorization).send().await;
    metrics.count_cplane_request(RPC, answer.as_ref().ok().map(reqwest::Response::status));
    let response = answer.map_err(transport)?;
    if response.status() != StatusCode::OK {
        return Err(TryError::Status(response.status()));
    }
    let body = response.bytes().await.map_err(transport)?;
    document::parse(&body).map_err(TryError::Parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::HeaderMap;
    use axum::routing::get;

    const EMPTY: &str =
        r#"{"status":"empty","spec":null,"compute_ctl_config":{"jwks":{"keys":[]}}}"#;
    const ATTACHED: &str = r#"{"status":"attached","compute_ctl_config":{"jwks":{"keys":[]}},
        "spec":{"format_version":1,"suspend_timeout_seconds":0,"cluster":{"roles":[],"databases":[]}}}"#;

    /// A control plane that gives the answers in turn (the last one again and again) and counts.
    async fn serve(answers: Vec<(u16, &'static str)>) -> (ControlPlane, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let handler = move |headers: HeaderMap| {
            let n = counter.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (status, body) = answers[n];
            assert_eq!(headers["authorization"], "Bearer tok");
            async move { (StatusCode::from_u16(status).unwrap(), body) }
        };
        let app = axum::Router::new().route("/cp/compute/api/v2/computes/c1/spec", get(handler));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/cp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let token = Secret::new("tok".to_owned());
        (ControlPlane { base, compute_id: "c1".to_owned(), token }, count)
    }

    #[tokio::test]
    async fn transient_failures_are_retried() {
        let (cp, count) = serve(vec![(503, ""), (200, "{"), (200, ATTACHED)]).await;
        let metrics = Metrics::new().unwrap();
        assert!(fetch(&cp, &metrics).await.unwrap().spec.is_some());
        assert_eq!(count.load(Ordering::SeqCst), 3);
        let text = metrics.render().unwrap();
        for (status, tries) in [("503 Service Unavailable", 1), ("200 OK", 2)] {
            let labels = format!(r#"{{http_status="{status}",rpc="GetConfig"}}"#);
            let series = format!("compute_ctl_cplane_requests_total{labels} {tries}");
            assert!(text.contains(&series), "{series} in {text}");
        }

        let (cp, count) = serve(vec![(502, "")]).await;
        assert!(matches!(
            fetch(&cp, &Metrics::new().unwrap()).await,
            Err(ControlPlaneError::Exhausted(_))
        ));
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn permanent_failures_are_not_retried() {
        for status in [401, 404, 500] {
            let (cp, count) = serve(vec![(status, EMPTY)]).await;
            assert!(matches!(
                fetch(&cp, &Metrics::new().unwrap()).await,
                Err(ControlPlaneError::Permanent(_))
            ));
            assert_eq!(count.load(Ordering::SeqCst), 1);
        }
        let attached = r#"{"status":"attached","compute_ctl_config":{"jwks":{"keys":[]}}}"#;
        let (cp, count) = serve(vec![(200, attached)]).await;
        assert!(matches!(
            fetch(&cp, &Metrics::new().unwrap()).await,
            Err(ControlPlaneError::AttachedWithoutSpec)
        ));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_empty_compute_gets_no_spec() {
        let (cp, _) = serve(vec![(200, EMPTY)]).await;
        assert!(fetch(&cp, &Metrics::new().unwrap()).await.unwrap().spec.is_none());
    }

    #[tokio::test]
    async fn nobody_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let cp = ControlPlane { base, compute_id: "c1".to_owned(), token: Secret::default() };
        let metrics = Metrics::new().unwrap();
        let error = fetch(&cp, &metrics).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        assert!(metrics.render().unwrap().contains(r#"{http_status="unknown",rpc="GetConfig"} 3"#));
    }
}
