//! Every HTTP client of the program is made here, so that one rule holds for all of them.
//!
//! The rule: a credential goes only to the origin (scheme, host and port) that the operator named.
//! So a redirect is followed only within its origin, at most ten times, or not at all. We do not
//! rely on the library to remove the credential on the way to another host: it did so for the first
//! hop only. Clients without a credential follow the same rule: the operator chooses the server,
//! and a server must not be able to redirect the client to ports that only this machine reaches. A
//! test of the crate (`source_rules`) refuses a client that is made elsewhere.

use std::error::Error;

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, ClientBuilder, Url};

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

    #[test]
    fn ten_times() {
        let all = vec![url("http://h/"); MAX_REDIRECTS + 1];
        assert_eq!(judge(&url("http://h/"), &all[1..]), Ok(()));
        let refused = judge(&url("http://h/"), &all).unwrap_err();
        assert_eq!(refused.to_string(), "http://h redirects more than 10 times");
    }
}
