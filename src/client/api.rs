//! One request to a compute, with a deadline for all of it.

use std::path::{Path, PathBuf};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::args::Target;
use crate::errors::one_line;
use crate::http_client::{self, Redirects};
use crate::os::denied::explained;

/// Limit for an answer; the report on an apply of very many databases has some MiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A compute and the token for it.
#[derive(Debug)]
pub(crate) struct Api {
    client: reqwest::Client,
    base: String,
    /// Marked as sensitive: its debug form does not show the token.
    authorization: Option<HeaderValue>,
}

/// Why the client cannot be set up.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    /// The file cannot be read.
    #[error("could not read the token file {}: {error}", path.display())]
    TokenFile {
        /// `--token-file`.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file does not hold a token. The text does not repeat the content.
    #[error("{} holds no token", .0.display())]
    NoToken(PathBuf),
    /// The HTTP library cannot be set up.
    #[error("could not set up the HTTP client: {0}")]
    Client(String),
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// The timeout expired.
    #[error("the compute did not answer in time")]
    Deadline,
    /// No connection.
    #[error("could not reach the compute: {0}")]
    NotReached(String),
    /// The connection broke during the answer, for instance because the process ended.
    #[error("the connection broke before the answer was complete: {0}")]
    Broken(String),
    /// The server is not a compute.
    #[error("the answer is larger than an answer of a compute can be")]
    TooLarge,
}

/// The answer of a compute.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub code: StatusCode,
    /// The body; null if it is not JSON.
    pub document: Value,
}

impl Answer {
    /// Member `status` of a status document.
    pub(crate) fn status(&self) -> Option<&str> {
        self.document.get("status")?.as_str()
    }

    /// Member `error` of an error document.
    pub(crate) fn error(&self) -> Option<&str> {
        self.document.get("error")?.as_str()
    }
}

impl Api {
    /// Reads the token.
    ///
    /// # Errors
    /// The token file holds no token.
    pub(crate) fn new(target: &Target) -> Result<Self, SetupError> {
        // The token must reach neither a proxy from the environment nor the target of a redirect.
        let client = http_client::builder(Redirects::NotFollowed)
            .no_proxy()
            .build()
            .map_err(|error| SetupError::Client(one_line(&error)))?;
        let base = target.address().to_owned();
        let authorization = target.token_file.as_deref().map(authorization).transpose()?;
        Ok(Self { client, base, authorization })
    }

    /// Whether a token is sent.
    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Sends one request and reads the answer to its end.
    ///
    /// # Errors
    /// There is no complete answer. An answer of any status code is not an error.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        self.send(self.client.request(method, self.at(path)), deadline).await
    }

    /// Like [`Self::request`], a POST with a document.
    ///
    /// # Errors
    /// Those of [`Self::request`].
    pub(crate) async fn post(
        &self,
        path: &str,
        document: &Value,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        let request = self.client.post(self.at(path)).header(CONTENT_TYPE, "application/json");
        self.send(request.body(document.to_string()), deadline).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        timeout_at(deadline, exchange(request)).await.unwrap_or(Err(RequestError::Deadline))
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, RequestError> {
    let broken = |error: reqwest::Error| RequestError::Broken(without_url(error));
    let mut response = request.send().await.map_err(|error| {
        if error.is_connect() {
            RequestError::NotReached(root_cause(&error))
        } else {
            broken(error)
        }
    })?;
    let code = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len().saturating_add(piece.len()) > MAX_ANSWER {
            return Err(RequestError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { code, document: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

/// What the system or the resolver said. The layers of the library above it only say that a request
/// could not be sent.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The error without the URL, which every text of a failure begins with.
fn without_url(error: reqwest::Error) -> String {
    one_line(&error.without_url())
}

fn authorization(path: &Path) -> Result<HeaderValue, SetupError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| explained(error, path))
        .map_err(|error| SetupError::TokenFile { path: path.to_owned(), error })?;
    let no_token = || SetupError::NoToken(path.to_owned());
    let token = Some(text.trim()).filter(|token| is_one_word(token)).ok_or_else(no_token)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &[u8]| {
            let path = dir.path().join("token");
            std::fs::write(&path, text).unwrap();
            authorization(&path)
        };
        assert_eq!(read(b"a.b.c\n").unwrap(), "Bearer a.b.c");
        assert!(!format!("{:?}", read(b"a.b.c").unwrap()).contains("a.b.c"));
        for bad in [&b""[..], b" \n", b"a b", b"a\nb", b"gr\xc3\xbcn"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.ends_with("token holds no token"), "{error}");
        }
        assert!(read(b"\xff").unwrap_err().to_string().contains("could not read the token file"));
    }
}
