//! Every HTTP client of the program is made here, so that one rule holds for all of them.
//!
//! The rule: a credential goes only to the origin (scheme, host and port) that the operator named.
//! So a redirect is followed only within its origin, at most ten times, or not at all. We do not
//! rely on the library to remove the credential on the way to another host: it did so for the first
//! hop only. Clients without a credential follow the same rule: the operator chooses the server,
//! and a server must not be able to redirect the client to ports that only this machine reaches. A
//! test of the crate (`source_rules`) refuses a client that is made elsewhere.

use std::error::Error;

use hyper_util::client::proxy::matcher::Matcher;
use nix::errno::Errno;
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Url};

/// At most this many redirects of one request are followed.
const MAX_REDIRECTS: usize = 10;

/// How a client treats a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// Follows it within the origin; fails with [`RedirectRefused`] if it leads to another one.
    SameOrigin,
    /// Returns the redirect as the answer.
    NotFollowed,
}

/// Why a redirect was not followed. Holds no path, query, user or password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectRefused {
    /// Another scheme, host or port.
    #[error(
        "{from} redirects to {to}: a redirect to another scheme, host or port is not followed; \
         name the address that answers itself"
    )]
    OtherOrigin {
        /// The origin of the request.
        from: String,
        /// The origin that the redirect points to.
        to: String,
    },
    /// Most likely a loop.
    #[error("{0} redirects more than {MAX_REDIRECTS} times")]
    TooMany(String),
}

/// A client that follows the rule of this module; the caller sets deadlines and proxies.
pub(crate) fn builder(redirects: Redirects) -> ClientBuilder {
    // Installed once per process; a second call fails, which is ignored.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(match redirects {
        Redirects::SameOrigin => Policy::custom(within_the_origin),
        Redirects::NotFollowed => Policy::none(),
    })
}

/// Has the client trust only the authorities of a PEM text, if there is one, and show the certificate of
/// another, which holds its key, too.
pub(crate) fn with_certificates(
    mut builder: ClientBuilder,
    authorities: Option<&[u8]>,
    identity: Option<&[u8]>,
) -> Result<ClientBuilder, reqwest::Error> {
    if let Some(text) = authorities {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(text)?);
    }
    if let Some(text) = identity {
        builder = builder.identity(Identity::from_pem(text)?);
    }
    Ok(builder)
}

/// The refusal behind a request's error, if it is one.
pub(crate) fn refused_redirect(error: &reqwest::Error) -> Option<&RedirectRefused> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// Why a request of a client that heeds the proxies of the environment failed: the server and, if one
/// is used, the proxy by host and port, and the innermost cause. The library's own text has neither,
/// and the URL in it may hold a password.
pub(crate) fn failure(error: &reqwest::Error) -> String {
    failure_with(error, &Matcher::from_env())
}

fn failure_with(error: &reqwest::Error, proxies: &Matcher) -> String {
    let Some(server) = error.url().and_then(host_and_port) else { return innermost(error) };
    let proxy = error.url().and_then(|url| proxies.intercept(&url.as_str().parse().ok()?));
    let through = proxy.map_or_else(String::new, |proxy| {
        let (scheme, at) = (proxy.uri().scheme_str().unwrap_or("http"), proxy.uri().authority());
        let at = at.map_or("", |at| at.as_str().rsplit('@').next().unwrap_or_default());
        format!(" through the proxy {scheme}://{at}, which the environment names")
    });
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => format!("the connection to {server}{through} timed out"),
        (true, false) => format!("could not connect to {server}{through}: {}", innermost(error)),
        (false, true) => format!("the request to {server}{through} timed out"),
        (false, false) => {
            format!("the request to {server}{through} failed: {}", innermost(error))
        }
    }
}

fn host_and_port(url: &Url) -> Option<String> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    Some(format!("{host}:{port}"))
}

/// The text of the innermost cause: the outer ones say which part of the library failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let number = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    match number {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        // The error itself would repeat the URL.
        None if cause.is::<reqwest::Error>() => "the request cannot be sent".to_owned(),
        None => cause.to_string(),
    }
}

fn within_the_origin(attempt: Attempt<'_>) -> Action {
    match judge(attempt.url(), attempt.previous()) {
        Ok(()) => attempt.follow(),
        Err(refused) => attempt.error(refused),
    }
}

/// `previous` begins with the first request.
fn judge(next: &Url, previous: &[Url]) -> Result<(), RedirectRefused> {
    let origin = |url: &Url| url.origin().ascii_serialization();
    let Some(first) = previous.first() else { return Ok(()) };
    if next.origin() != first.origin() {
        return Err(RedirectRefused::OtherOrigin { from: origin(first), to: origin(next) });
    }
    if previous.len() > MAX_REDIRECTS {
        return Err(RedirectRefused::TooMany(origin(first)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn only_the_same_scheme_host_and_port() {
        let first = [url("http://u:planted@cp.example:80/a?planted")];
        for same in ["http://cp.example/b", "http://CP.example:80/c", "http://x@cp.example/"] {
            assert_eq!(judge(&url(same), &first), Ok(()), "{same}");
        }
        for other in [
            "https://cp.example:80/",
            "https://cp.example/",
            "http://cp.example:81/",
            "http://cp.example.evil/",
            "http://cp.example@evil/",
            "http://127.0.0.1/",
        ] {
            let with_secrets = url(other).join("/planted?planted#planted").unwrap();
            let refused = judge(&with_secrets, &first).unwrap_err().to_string();
            assert!(refused.starts_with("http://cp.example redirects to http"), "{refused}");
            assert!(!refused.contains("planted"), "{refused}");
        }
    }

    /// Nothing listens on port 1.
    #[tokio::test]
    async fn a_failure_names_server_and_proxy() {
        let none = Matcher::builder().build();
        let one = Matcher::builder().all("http://user:planted@127.0.0.1:1").build();
        let client = builder(Redirects::SameOrigin).no_proxy().build().unwrap();
        let target = "http://u:planted@127.0.0.1:1/planted?planted";
        let error = client.get(target).send().await.unwrap_err();
        assert_eq!(
            failure_with(&error, &none),
            "could not connect to 127.0.0.1:1: Connection refused"
        );
        assert_eq!(
            failure_with(&error, &one),
            "could not connect to 127.0.0.1:1 through the proxy http://127.0.0.1:1, which the \
             environment names: Connection refused"
        );
    }

    #[test]
    fn ten_times() {
        let all = vec![url("http://h/"); MAX_REDIRECTS + 1];
        assert_eq!(judge(&url("http://h/"), &all[1..]), Ok(()));
        let refused = judge(&url("http://h/"), &all).unwrap_err();
        assert_eq!(refused.to_string(), "http://h redirects more than 10 times");
    }
}
