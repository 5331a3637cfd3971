//! Fetches the configuration of the compute from its control plane (09 §1).
//!
//! Called at the start and at each refresh. A transient failure is retried with growing pauses
//! until the caller's patience is over: a restart of the control plane must not end every compute
//! that starts at that time (09 §10 no. 1). A permanent failure is returned at once. Invariant:
//! ends within [`Patience::total`] plus one try.
//!
//! A request that stalls must leave time for another one: the first try has a part of the whole
//! time only. A try that timed out gives the next one twice as long, so that a control plane that
//! is slow under load is not asked again and again for an answer that is about to come.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use thiserror::Error;
use tokio::time::Instant;
use url::Url;

use super::document::{self, DocumentError, Parsed};
use super::wire::{ConfigDocument, ControlPlaneResponse, ControlPlaneStatus};
use crate::duration::varied;
use crate::http_client::{self, RedirectRefused, Redirects};
use crate::secret::Secret;
use crate::telemetry::traces;

/// Name of the request in the metrics (03 §10).
pub(crate) const RPC: &str = "GetConfig";

/// First pause after a failed try (09 §1.2); doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Tries in all if the answer is not a configuration: the same text will come again.
const MAX_MALFORMED: u32 = 3;
/// A larger answer is not a configuration.
const MAX_BODY: usize = 32 << 20;

/// Address and credentials of a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// Prefix of the URL.
    pub base: String,
    /// `--compute-id`. Each `/` in it begins another segment of the path (09 §12).
    pub compute_id: String,
    /// `NEON_CONTROL_PLANE_TOKEN`; no header is sent when it is empty.
    pub token: Secret<String>,
}

/// Limits of one look at the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Reading the configuration file in place of a request.
    pub file: Duration,
    /// One connect.
    pub connect: Duration,
    /// The first try, connect to last byte.
    pub request: Duration,
    /// A try after others that timed out, each of which doubles the limit of the next.
    pub longest_request: Duration,
    /// After this no new try is begun.
    pub total: Duration,
}

/// Patience with the control plane, and with the file in its place, by occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPlaneLimits {
    /// At the start: long enough to outlast a restart of the control plane (09 §10 no. 1).
    pub start: Patience,
    /// At a refresh: the refresh is retried anyway, and further callers are refused while it is in
    /// progress (03 §6.4).
    pub refresh: Patience,
}

impl Default for ControlPlaneLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            // Tries of 5, 10 and 20 s if the control plane does not answer at all.
            start: Patience {
                file: seconds(30),
                connect: seconds(5),
                request: seconds(5),
                longest_request: seconds(20),
                total: seconds(30),
            },
            // One try if it does not answer at all.
            refresh: Patience {
                file: seconds(10),
                connect: seconds(2),
                request: seconds(10),
                longest_request: seconds(10),
                total: seconds(2),
            },
        }
    }
}

/// Called after each try with the status, or `None` without an answer. For
/// `compute_ctl_cplane_requests_total` (09 §1.2).
pub(crate) type Observer<'a> = &'a (dyn Fn(Option<StatusCode>) + Sync);

/// Why the control plane gave no configuration.
#[derive(Debug, Error)]
pub enum ControlPlaneError {
    /// All tries failed with transient errors.
    #[error(
        "Exhausted all attempts to retrieve the config from the control plane ({asked}): {tries} \
         in {:.1} s, the last one failed: {last}", took.as_secs_f64()
    )]
    Exhausted {
        /// The control plane and the compute id.
        asked: String,
        /// Number of tries.
        tries: u32,
        /// From the first try to the end of the last.
        took: Duration,
        /// The last failure.
        last: Box<TryError>,
    },
    /// A failure that a retry cannot fix.
    #[error("could not retrieve the config from the control plane ({asked}): {why}")]
    Permanent {
        /// The control plane and the compute id.
        asked: String,
        /// What happened.
        why: Box<TryError>,
    },
}

/// How one try failed.
#[derive(Debug, Error)]
pub enum TryError {
    /// The URL cannot be used.
    #[error("--control-plane-uri is not the prefix of an http or https URL")]
    Url,
    /// No answer.
    #[error("{text}")]
    Transport {
        /// Server and cause.
        text: String,
        /// Whether a limit ended the try.
        timed_out: bool,
    },
    /// The answer points to another origin, which must not see the token.
    #[error(transparent)]
    Redirect(RedirectRefused),
    /// The status is not 200.
    #[error("the control plane answered {0}")]
    Status(StatusCode),
    /// The answer is larger than a configuration can be.
    #[error("its answer has more than {MAX_BODY} bytes")]
    TooLarge,
    /// The answer is 200 with another document.
    #[error("its answer could not be parsed: {0}")]
    Parse(DocumentError),
    /// 09 §1.2; most likely the control plane is about to add the spec (09 §10 no. 5).
    #[error("compute is attached, but spec is empty")]
    AttachedWithoutSpec,
}

impl TryError {
    /// Lost connections, 502, 503 and answers without a usable configuration are retried (09 §1.2).
    const fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Parse(_) | Self::AttachedWithoutSpec => true,
            Self::Url | Self::TooLarge | Self::Redirect(_) => false,
            Self::Status(status) => {
                matches!(*status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }
}

/// Fetches the configuration, with retries.
pub(crate) async fn fetch(
    control_plane: &ControlPlane,
    patience: Patience,
    observer: Observer<'_>,
) -> Result<ConfigDocument, ControlPlaneError> {
    let span = traces::span("fetch_configuration");
    let fetched = span.scope(fetch_inside(control_plane, patience, observer)).await;
    if let Err(error) = &fetched {
        span.fail(error);
    }
    fetched
}

async fn fetch_inside(
    control_plane: &ControlPlane,
    patience: Patience,
    observer: Observer<'_>,
) -> Result<ConfigDocument, ControlPlaneError> {
    let permanent = |asked: &str, error| ControlPlaneError::Permanent {
        asked: asked.to_owned(),
        why: Box::new(error),
    };
    let about = format!("compute {}", control_plane.compute_id);
    let url = url(control_plane).map_err(|error| permanent(&about, error))?;
    let asked = format!("{} about {about}", origin(&url));
    let client = client(patience).map_err(|error| permanent(&asked, error))?;
    let began = Instant::now();
    let (mut tries, mut malformed, mut pause) = (0, 0, FIRST_PAUSE);
    let mut limit = patience.request;
    loop {
        tries += 1;
        let request = client.get(url.clone()).timeout(limit);
        let error = match fetch_once(request, &control_plane.token, observer).await {
            Ok(document) => return Ok(document),
            Err(error) if !error.is_transient() => return Err(permanent(&asked, error)),
            Err(error) => error,
        };
        malformed += u32::from(matches!(error, TryError::Parse(_)));
        if matches!(error, TryError::Transport { timed_out: true, .. }) {
            limit = (limit * 2).min(patience.longest_request);
        }
        let pause_now = varied(pause);
        if malformed >= MAX_MALFORMED || began.elapsed() + pause_now >= patience.total {
            let (took, last) = (began.elapsed(), Box::new(error));
            return Err(ControlPlaneError::Exhausted { asked, tries, took, last });
        }
        tracing::warn!(
            "could not retrieve the config from the control plane ({asked}), next try in {} ms: \
             {error}",
            pause_now.as_millis()
        );
        tokio::time::sleep(pause_now).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// `{base}/compute/api/v2/computes/{compute_id}/spec`; a `/` at the end of the base is not doubled,
/// and the id is encoded (09 §10 no. 3).
fn url(control_plane: &ControlPlane) -> Result<Url, TryError> {
    let mut url = Url::parse(&control_plane.base).map_err(|_| TryError::Url)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(TryError::Url);
    }
    let mut path = url.path_segments_mut().map_err(|()| TryError::Url)?;
    path.pop_if_empty().extend(["compute", "api", "v2", "computes"]);
    path.extend(control_plane.compute_id.split('/')).push("spec");
    drop(path);
    Ok(url)
}

/// The part of the URL that may be logged: the prefix may hold a password.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn client(patience: Patience) -> Result<reqwest::Client, TryError> {
    http_client::builder(Redirects::SameOrigin)
        .connect_timeout(patience.connect)
        .build()
        .map_err(transport)
}

/// The error without its URL, see [`origin`], but with the proxy.
fn transport(error: reqwest::Error) -> TryError {
    if let Some(refused) = http_client::refused_redirect(&error) {
        return TryError::Redirect(refused.clone());
    }
    TryError::Transport { timed_out: error.is_timeout(), text: http_client::failure(&error) }
}

async fn fetch_once(
    mut request: RequestBuilder,
    token: &Secret<String>,
    observer: Observer<'_>,
) -> Result<ConfigDocument, TryError> {
    if !token.expose().is_empty() {
        request = request.bearer_auth(token.expose());
    }
    let response = traces::send(request, "/compute/api/v2/computes/{compute_id}/spec").await;
    observer(response.as_ref().ok().map(reqwest::Response::status));
    let mut response = response.map_err(transport)?;
    if response.status() != StatusCode::OK {
        return Err(TryError::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            return Err(TryError::TooLarge);
        }
    }
    read(&body)
}

fn read(body: &[u8]) -> Result<ConfigDocument, TryError> {
    let Parsed { value, unknown_members } = document::parse(body).map_err(TryError::Parse)?;
    let ControlPlaneResponse { status, spec, compute_ctl_config } = value;
    match (status, &spec) {
        (ControlPlaneStatus::Attached, None) => return Err(TryError::AttachedWithoutSpec),
        (ControlPlaneStatus::Empty, Some(_)) => {
            tracing::warn!("the control plane says `empty` and has a spec; using the spec");
        }
        _ => {}
    }
    document::log_unknown_members("the control plane's answer", &unknown_members);
    Ok(ConfigDocument { spec, compute_ctl_config })
}

#[cfg(test)]
mod tests;
