//! Requests that a page of another site makes a browser send. Where no token is needed, they are
//! refused: by every route of the internal server, and with `--dev` by those routes of the external
//! server that let a client of this machine in without a token.
//!
//! Such a page can do two things. Without reading the answer, it can send a POST to any address; a
//! browser then adds `Origin`, which no program does, so a request that changes something must not
//! have it. And if a name of that site resolves to this machine (DNS rebinding), it can read answers
//! too; `Host` is then that name, so it must be an address or `localhost`, which is never another
//! site's.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;

use super::api::{Route, Routes};
use super::error::ApiError;

/// What `Host` may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hosts {
    /// An address or `localhost`.
    Local,
    /// Any name: on a server that other machines use, which may know it by a name. Such a server is
    /// open to every program of its network anyway.
    Any,
}

/// The same routes, for all but pages of other sites.
pub(super) fn guarded(routes: impl IntoIterator<Item = Route>, hosts: Hosts) -> Routes {
    let guard = middleware::from_fn(move |request: Request, next: Next| async move {
        match check(&request, hosts) {
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        }
    });
    let guard = |route: Route| Route { methods: route.methods.route_layer(guard.clone()), ..route };
    routes.into_iter().map(guard).collect()
}

/// Refuses the request of a page of another site.
pub(super) fn check(request: &Request, hosts: Hosts) -> Result<(), ApiError> {
    let refused = |text| Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, text));
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if !reads && request.headers().contains_key(header::ORIGIN) {
        return refused(
            "a request with `Origin` is that of a page in a browser, and no page may change this \
             compute; use a program",
        );
    }
    let host = request.headers().get(header::HOST);
    let host = host.map_or(Some(""), |host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(Authority::as_str));
    if hosts == Hosts::Local && !host.is_some_and(is_local) {
        return refused(
            "without a token this path answers only to an IP address or localhost, so that no other \
             site can read it; write one of them in place of the name",
        );
    }
    Ok(())
}

/// Whether the value of `Host` cannot be a name that another site owns. Browsers always send one.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return host.is_empty() };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn what_a_page_of_another_site_can_send() {
        let ok = |method: &str, headers: &[(&str, &str)], hosts| {
            let request = Request::builder().method(method).uri("/grants");
            let add = |request: axum::http::request::Builder, (name, value): &(&str, &str)| {
                request.header(*name, *value)
            };
            let request = headers.iter().fold(request, add).body(Body::empty()).unwrap();
            check(&request, hosts).is_ok()
        };
        let (local, name) = (("host", "localhost:3081"), ("host", "rebound.example:3081"));
        for hosts in [Hosts::Local, Hosts::Any] {
            assert!(ok("POST", &[local], hosts));
            assert!(
                ok("GET", &[local, ("origin", "http://a.example")], hosts),
                "it cannot be read"
            );
            for origin in ["http://a.example", "http://localhost:3081", "null", ""] {
                assert!(!ok("POST", &[local, ("origin", origin)], hosts), "{origin}");
                assert!(!ok("DELETE", &[local, ("origin", origin)], hosts), "{origin}");
            }
            assert_eq!(ok("GET", &[name], hosts), hosts == Hosts::Any);
            assert_eq!(ok("POST", &[name], hosts), hosts == Hosts::Any);
            assert_eq!(ok("GET", &[("host", "\u{fc}")], hosts), hosts == Hosts::Any);
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for local in [
            "",
            "localhost",
            "LOCALHOST:3081",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:3081",
            "10.0.0.7:3081",
            "[::1]",
            "[::1]:3081",
        ] {
            assert!(is_local(local), "{local}");
        }
        for foreign in [
            "example.com",
            "example.com:3081",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "localhostx",
            "notlocalhost",
            "a b",
            "user@example.com",
            "127.0.0.1@example.com",
            "::1",
        ] {
            assert!(!is_local(foreign), "{foreign}");
        }
    }
}
