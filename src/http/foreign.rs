//! Requests that a page of another site makes a browser send. Where no token is needed, they are
//! refused: by every route of the internal server, and with `--dev` by those routes of the external
//! server that let a client of this machine in without a token.
//!
//! Such a page can do two things. It can send a request to any address without reading the answer;
//! a browser then says so in `Origin` or `Sec-Fetch-Site`, which no program sends. And if a name of
//! that site resolves to this machine (DNS rebinding), the browser takes both for one site: it reads
//! answers, and says `same-origin` or nothing. `Host` is then that name, so it must be one that is
//! never another site's.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;

use super::api::{Route, Routes};
use super::error::ApiError;
use crate::node::HostNames;

/// What `Host` may be.
#[derive(Debug, Clone)]
pub(super) enum Hosts {
    /// An address, `localhost` or one of these names.
    Known(Arc<[String]>),
    /// Any name: on a server that the operator opened to other machines, which know it by names
    /// that the operator did not tell. Every program of its network can use it anyway.
    Any,
}

impl Hosts {
    /// Of the external server, where it lets in clients of this machine without a token.
    pub(super) fn of_this_machine(names: &HostNames) -> Self {
        Self::Known(names.own.iter().cloned().collect())
    }

    /// Of the internal server, which other machines can reach if it is `open`.
    pub(super) fn of_internal(names: &HostNames, open: bool) -> Self {
        match names.given.is_empty() && open {
            true => Self::Any,
            false => Self::Known(names.own.iter().chain(&names.given).cloned().collect()),
        }
    }

    /// Whether a request may have this value, which browsers always send. None is text that cannot
    /// be read.
    fn have(&self, host: Option<&str>) -> bool {
        let Self::Known(names) = self else { return true };
        let Some(host) = host else { return false };
        let Ok(authority) = host.parse::<Authority>() else { return host.is_empty() };
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let is_known = || names.iter().any(|known| known.eq_ignore_ascii_case(&name));
        address.parse::<IpAddr>().is_ok() || is_local || is_known()
    }
}

/// The same routes, for all but pages of other sites.
pub(super) fn guarded(routes: impl IntoIterator<Item = Route>, hosts: &Hosts) -> Routes {
    let hosts = hosts.clone();
    let guard = middleware::from_fn(move |request: Request, next: Next| {
        let refused = check(&request, &hosts).err();
        async move {
            match refused {
                None => next.run(request).await,
                Some(error) => error.into_response(),
            }
        }
    });
    let guard = |route: Route| Route { methods: route.methods.route_layer(guard.clone()), ..route };
    routes.into_iter().map(guard).collect()
}

/// Refuses the request of a page of another site.
pub(super) fn check(request: &Request, hosts: &Hosts) -> Result<(), ApiError> {
    let refused = |text| Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, text));
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) || is_of_another_site(request.method(), headers) {
        return refused(
            "a request with `Origin` or with `Sec-Fetch-Site` of another site is that of a page in \
             a browser, and no page may use this path; use a program",
        );
    }
    let host = headers.get(header::HOST);
    let host = host.map_or(Some(""), |host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(Authority::as_str));
    if !hosts.have(host) {
        return refused(
            "without a token this path answers only to an IP address, localhost, the host name of \
             this machine and the names of --internal-http-host, so that no other site can read it; \
             write one of them in place of the name",
        );
    }
    Ok(())
}

/// Whether a browser says that another site asks. Not if a person follows a link: that site does not
/// get the answer, and a page that changes something has `Origin`.
fn is_of_another_site(method: &Method, headers: &HeaderMap) -> bool {
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|it| it == value);
    let follows = *method == Method::GET
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document");
    ["cross-site", "same-site"].iter().any(|site| says("sec-fetch-site", site)) && !follows
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn ok(method: &str, headers: &[(&str, &str)], hosts: &Hosts) -> bool {
        let request = Request::builder().method(method).uri("/grants");
        let add = |request: axum::http::request::Builder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        let request = headers.iter().fold(request, add).body(Body::empty()).unwrap();
        check(&request, hosts).is_ok()
    }

    fn names(own: Option<&str>, given: &[&str]) -> HostNames {
        let given = given.iter().map(|it| (*it).to_owned()).collect();
        HostNames { own: own.map(str::to_owned), given }
    }

    #[test]
    fn what_a_page_of_another_site_can_send() {
        let hosts = Hosts::of_internal(&names(None, &[]), false);
        let (local, name) = (("host", "localhost:3081"), ("host", "rebound.example:3081"));
        for hosts in [&hosts, &Hosts::Any] {
            let any = matches!(hosts, Hosts::Any);
            for method in ["GET", "HEAD", "POST", "DELETE"] {
                assert!(ok(method, &[local], hosts));
                for origin in ["http://a.example", "http://localhost:3081", "null", ""] {
                    assert!(!ok(method, &[local, ("origin", origin)], hosts), "{origin}");
                    assert!(!ok(method, &[name, ("origin", origin)], hosts), "{origin}");
                }
                for site in ["cross-site", "same-site"] {
                    assert!(!ok(method, &[local, ("sec-fetch-site", site)], hosts), "{site}");
                    assert!(!ok(method, &[name, ("sec-fetch-site", site)], hosts), "{site}");
                }
                assert_eq!(ok(method, &[name], hosts), any);
                // A rebound page is of the same origin for its browser.
                for site in ["same-origin", "none"] {
                    assert!(ok(method, &[local, ("sec-fetch-site", site)], hosts), "{site}");
                    assert_eq!(ok(method, &[name, ("sec-fetch-site", site)], hosts), any);
                }
                assert_eq!(ok(method, &[("host", "\u{fc}")], hosts), any);
            }
            let link = ["cross-site", "navigate", "document"];
            let names = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"];
            let link = names.into_iter().zip(link).chain([local]).collect::<Vec<_>>();
            assert!(ok("GET", &link, hosts), "a person follows a link");
            assert!(!ok("POST", &link, hosts));
            let mut frame = link;
            frame[2].1 = "iframe";
            assert!(!ok("GET", &frame, hosts));
        }
    }

    #[test]
    fn names_that_the_operator_gives() {
        let host = |name: &'static str, hosts: &Hosts| ok("GET", &[("host", name)], hosts);
        for open in [false, true] {
            let unnamed = Hosts::of_internal(&names(Some("Node-7.example"), &[]), open);
            let named = names(Some("node-7.example"), &["compute-1.default.svc"]);
            let named = Hosts::of_internal(&named, open);
            for hosts in [&unnamed, &named] {
                assert!(host("node-7.EXAMPLE:3081", hosts));
                assert!(host("node-7.example.", hosts));
                assert!(host("10.0.0.7:3081", hosts));
            }
            for name in
                ["compute-1.default.svc:3081", "Compute-1.default.svc.", "compute-1.default.svc"]
            {
                assert!(host(name, &named), "{name}");
                assert_eq!(host(name, &unnamed), open, "{name}");
            }
            for name in ["node-7", "example", "a.compute-1.default.svc", "rebound.example:3081"] {
                assert!(!host(name, &named), "{name}");
                assert_eq!(host(name, &unnamed), open, "{name}");
            }
        }
        let dev = Hosts::of_this_machine(&names(Some("node-7"), &["compute-1"]));
        assert!(host("node-7", &dev) && !host("compute-1", &dev));
    }

    #[test]
    fn only_addresses_and_localhost_are_local() {
        let none = Hosts::Known(Arc::new([]));
        for local in [
            "",
            "localhost",
            "localhost.",
            "LOCALHOST:3081",
            "a.localhost:1",
            "127.0.0.1",
            "127.0.0.1:3081",
            "10.0.0.7:3081",
            "[::1]",
            "[::1]:3081",
        ] {
            assert!(none.have(Some(local)), "{local}");
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
            assert!(!none.have(Some(foreign)), "{foreign}");
        }
    }
}
