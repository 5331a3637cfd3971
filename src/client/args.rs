//! Flags of the commands that ask a compute, such as `compute_ctl status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use url::Url;

use super::certificates::{Certificates, CertificatesError};
use super::options::base_url;
use crate::duration;
use crate::state::{ComputeStatus, TerminateMode};

/// Certificates for an address that begins with `https://`.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// PEM file with the authorities that the certificate of an https:// server is checked with
    /// [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// PEM file with the certificate of this client, where the server wants one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,

    /// PEM file with the private key of this certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

impl TlsArgs {
    pub(super) fn certificates(&self) -> Result<Certificates, CertificatesError> {
        let identity = self.client_cert.as_deref().zip(self.client_key.as_deref());
        Certificates::from_files(self.ca_file.as_deref(), identity)
    }
}

/// The compute, and how to reach it.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Address of the external HTTP server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3080", value_parser = base_url)]
    pub url: Url,

    /// File that holds a token; without it none is sent
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Whom to trust.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Print the document as it is, and errors as JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `compute_ctl status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which compute.
    #[command(flatten)]
    pub target: Target,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,

    /// Show it again and again, every 2 s unless another time is given; Ctrl-C ends it
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2s", value_parser = duration::parse)]
    pub watch: Option<Duration>,
}

/// Flags of `compute_ctl wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Which compute.
    #[command(flatten)]
    pub target: Target,

    /// The status, as /status shows it; or ready: Postgres serves, which needs no token
    #[arg(long = "for", value_name = "STATUS", default_value = "running", value_parser = states())]
    pub wanted: Wanted,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Flags of `compute_ctl configure`.
#[derive(Debug, Args)]
pub struct ConfigureArgs {
    /// JSON configuration, as for --config; - is stdin
    #[arg(value_name = "FILE", value_parser = document())]
    pub file: PathBuf,

    /// Which compute.
    #[command(flatten)]
    pub target: Target,

    /// Look into every database at once, also where nothing seems to have changed
    #[arg(long)]
    pub full: bool,

    /// How long it may take; the compute goes on afterwards
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Flags of `compute_ctl refresh`.
#[derive(Debug, Args)]
pub struct RefreshArgs {
    /// Address of the internal HTTP server, which asks for no token
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3081", value_parser = base_url)]
    pub url: Url,

    /// Print errors as JSON
    #[arg(long)]
    pub json: bool,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Flags of `compute_ctl metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Address of the external HTTP server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3080", value_parser = base_url)]
    pub url: Url,

    /// File that holds a token; only --json needs one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Whom to trust.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Print how long the parts of the start took, and errors as JSON
    #[arg(long)]
    pub json: bool,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}

impl RefreshArgs {
    pub(super) fn target(&self) -> Target {
        Target::internal(&self.url, self.json)
    }
}

impl MetricsArgs {
    pub(super) fn target(&self) -> Target {
        let (url, token_file) = (self.url.clone(), self.token_file.clone());
        Target { url, token_file, tls: self.tls.clone(), json: self.json }
    }
}

/// Flags of `compute_ctl terminate`.
#[derive(Debug, Args)]
pub struct TerminateArgs {
    /// Which compute.
    #[command(flatten)]
    pub target: Target,

    /// fast: the process stays for another 30 s; immediate: it ends at once
    #[arg(long, value_name = "fast|immediate", default_value = "fast", value_parser = modes(), hide_possible_values = true)]
    pub mode: Named<TerminateMode>,

    /// How long the end may take
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// The internal server of a compute.
#[derive(Debug, Clone, Args)]
pub struct InternalTarget {
    /// Address of the internal HTTP server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3081", value_parser = base_url)]
    pub url: Url,

    /// Print documents as they are, and errors as JSON
    #[arg(long)]
    pub json: bool,
}

impl InternalTarget {
    /// As a target, without a token.
    pub(super) fn as_target(&self) -> Target {
        Target::internal(&self.url, self.json)
    }
}

/// Flags of `compute_ctl logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Which compute.
    #[command(flatten)]
    pub target: InternalTarget,

    /// Number of the last lines to show; at most 500 are kept
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub lines: usize,

    /// Go on with new lines as they come
    #[arg(long, short = 'f')]
    pub follow: bool,

    /// How long an answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// Flags of `compute_ctl log-level`.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// The level, or a filter in the form of `RUST_LOG`; without it the level is shown
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,

    /// Which compute.
    #[command(flatten)]
    pub target: InternalTarget,

    /// How long the level stays, a day at most; then the configured one is in force again
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    pub limit: Duration,

    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
}

impl Target {
    /// The internal server, which asks for nothing.
    fn internal(url: &Url, json: bool) -> Self {
        Self { url: url.clone(), token_file: None, tls: TlsArgs::default(), json }
    }

    /// The URL as messages show it, and as paths are added to it.
    pub(super) fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

/// What `compute_ctl wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// `/ready` says yes.
    Ready,
    /// `/status` shows this.
    Status(ComputeStatus),
}

/// The path of a document; `-` is stdin.
pub(crate) fn document() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new()
        .map(|path| if path.as_os_str() == "-" { "/dev/stdin".into() } else { path })
}

/// What the API's documents name, for messages and for the completions of shells.
fn states() -> impl TypedValueParser<Value = Wanted> {
    let names = std::iter::once("ready").chain(ComputeStatus::ALL.map(ComputeStatus::name));
    PossibleValuesParser::new(names).try_map(|text| wanted(&text))
}

fn modes() -> impl TypedValueParser<Value = Named<TerminateMode>> {
    PossibleValuesParser::new(["fast", "immediate"]).try_map(|text| named(&text))
}

fn wanted(text: &str) -> Result<Wanted, String> {
    match text {
        "ready" => Ok(Wanted::Ready),
        _ => named::<ComputeStatus>(text)
            .map(|status| Wanted::Status(status.0))
            .map_err(|error| format!("{error}, or `ready`")),
    }
}

/// A value in the spelling of the API's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<T>(pub T);

fn named<T: for<'de> Deserialize<'de>>(text: &str) -> Result<Named<T>, String> {
    let name: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(name).map(Named).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let status = named::<ComputeStatus>("refresh_configuration").unwrap();
        assert_eq!(status, Named(ComputeStatus::RefreshConfiguration));
        let error = named::<ComputeStatus>("up").unwrap_err();
        assert!(error.contains("expected one of `empty`"), "{error}");
        assert_eq!(wanted("ready"), Ok(Wanted::Ready));
        assert_eq!(wanted("failed"), Ok(Wanted::Status(ComputeStatus::Failed)));
        assert!(wanted("up").unwrap_err().ends_with(", or `ready`"));
        assert!(named::<TerminateMode>("slow").is_err());
    }
}
