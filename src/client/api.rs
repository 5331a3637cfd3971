//! One request to a compute, with a deadline for all of it.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::certificates::advice;
use super::error::{Error, Refusal};
use super::options::{Options, SetupError, authorization, base_url};
use crate::errors::one_line;
use crate::http_client::{self, Redirects};

/// Limit for an answer; the report on an apply of very many databases has some MiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A compute and the token for it.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: reqwest::Client,
    base: Url,
    /// Marked as sensitive: its debug form does not show the token.
    authorization: Option<HeaderValue>,
}

/// A request without its address.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Begins with a slash; without special characters unless they are part of a path.
    pub(super) path: &'a str,
    /// Parameters in their plain form.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// A JSON document.
    pub(super) body: Option<String>,
}

/// The answer of a compute.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: StatusCode,
    body: Vec<u8>,
}

/// An error document (02 §12.1).
#[derive(Debug, Deserialize)]
struct ErrorDocument {
    error: String,
}

impl Answer {
    /// Member `error` of an error document.
    pub(super) fn error(&self) -> Option<String> {
        let document: Option<ErrorDocument> = serde_json::from_slice(&self.body).ok();
        document.map(|document| document.error)
    }

    /// The document in the body. `what` names it, with an article.
    pub(super) fn document<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|_| Error::Unexpected(what))
    }

    /// A body that is text. `what` names it, with an article.
    pub(super) fn text(self, what: &'static str) -> Result<String, Error> {
        String::from_utf8(self.body).map_err(|_| Error::Unexpected(what))
    }

    /// Whether it is a success (2xx); otherwise it is an error.
    pub(super) fn success(self) -> Result<Self, Error> {
        if self.code.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    pub(super) fn refusal(&self) -> Error {
        Error::Refused(Refusal { status: self.code.as_u16(), text: self.error() })
    }
}

impl Api {
    pub(super) fn new(options: &Options) -> Result<Self, SetupError> {
        // The token must reach neither a proxy from the environment nor the target of a redirect.
        let failed = |error| SetupError::Client(one_line(&error));
        let builder = http_client::builder(Redirects::NotFollowed).no_proxy();
        let (authorities, identity) = options.certificates.texts();
        let builder = http_client::with_certificates(builder, authorities, identity);
        let client = builder.map_err(failed)?.build().map_err(failed)?;
        let base = base_url(&options.url).map_err(SetupError::Url)?;
        let authorization = options.token.as_ref().map(authorization).transpose()?;
        Ok(Self { client, base, authorization })
    }

    /// Whether a token is sent.
    pub(super) const fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// Sends one request and reads the answer to its end.
    ///
    /// # Errors
    /// There is no complete answer. An answer of any status code is not an error.
    pub(super) async fn send(
        &self,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let mut builder = self.client.request(request.method, self.at(request.path, request.query));
        if let Some(body) = request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        timeout_at(deadline, exchange(builder)).await.unwrap_or(Err(Error::Deadline))
    }

    fn at(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, Error> {
    let broken = |error: reqwest::Error| Error::Broken(root_cause(&error));
    let mut response = request.send().await.map_err(|error| {
        if error.is_connect() { Error::NotReached(root_cause(&error)) } else { broken(error) }
    })?;
    let code = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len().saturating_add(piece.len()) > MAX_ANSWER {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { code, body })
}

/// What the system or the resolver said. The layers of the library above it only say that a request
/// could not be sent.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    advice(error).map_or_else(|| cause.to_string(), |advice| format!("{cause}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (base, path, query, full) in [
            ("h", "/status", &[][..], "http://h:3080/status"),
            ("http://h:1/x/", "/status", &[], "http://h:1/x/status"),
            (
                "http://h:1",
                "/d",
                &[("database", "a&b=c d/é")],
                "http://h:1/d?database=a%26b%3Dc+d%2F%C3%A9",
            ),
            ("http://h:1", "/extension_server/a b?c", &[], "http://h:1/extension_server/a%20b%3Fc"),
        ] {
            let options = Options { url: base.to_owned(), ..Options::default() };
            let api = Api::new(&options).unwrap();
            assert_eq!(api.at(path, query).as_str(), full);
        }
    }
}
