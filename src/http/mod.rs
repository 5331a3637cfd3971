//! The two HTTP servers (03).
//!
//! ```text
//! listen: reserve ports ──► serve: accept, limits ──► observe: request id, access log, panics
//!                                                        │
//!            auth ◄── protected external routes ◄────────┼──► internal routes
//!              │                                         └──► open external routes
//!              └──► body ──► lifecycle, metrics, probes ──► node
//!                        └──► database, catalog_changes, health ──► Postgres
//! ```
//!
//! Each group of routes is one file that lists its `Routes`; it is added in `external` or
//! `internal`. Handlers ask the node and turn what it says into answers; `error` maps errors
//! to statuses. Nothing below this module knows HTTP.

mod auth;
mod body;
mod budget;
mod catalog_changes;
mod claims;
mod communicator;
mod database;
mod error;
mod extension_server;
#[cfg(feature = "testing")]
mod failpoints;
mod hadron_liveness;
mod health;
mod lfc;
mod lifecycle;
#[cfg(test)]
mod limits_tests;
mod listen;
mod metrics;
mod observe;
mod openapi;
mod pool;
mod promotion;
mod serve;
mod sql;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::MethodRouter;

pub use auth::{AuthMode, Authenticator};
pub use listen::{BindError, Reserved, Server, reserve};
pub use serve::{HttpLimits, Servers};

use crate::node::ComputeNode;

/// What handlers get.
#[derive(Debug, Clone)]
struct Api {
    node: Arc<ComputeNode>,
    limits: HttpLimits,
    ready: Arc<health::ReadyProbe>,
    communicator: communicator::Seats,
    bodies: budget::Bytes,
    polls: budget::LongPolls,
}

impl Api {
    /// What the handlers of one server get.
    fn of(node: Arc<ComputeNode>, limits: HttpLimits) -> Self {
        Self {
            node,
            limits,
            ready: Arc::default(),
            communicator: communicator::Seats::default(),
            bodies: budget::Bytes::new(limits.bodies_bytes),
            polls: budget::LongPolls::of(limits.connections),
        }
    }
}

/// Routes of one group. A path may appear in several groups, with different methods.
type Routes = Vec<(&'static str, MethodRouter<Api>)>;

/// Routes of the external server that ask for a token.
fn protected() -> Routes {
    let groups = [
        lifecycle::protected(),
        metrics::protected(),
        database::protected(),
        lfc::protected(),
        hadron_liveness::protected(),
        promotion::protected(),
    ];
    groups.into_iter().flatten().collect()
}

/// Routes of the external server that are open to all.
fn open() -> Routes {
    let groups = [metrics::open(), communicator::open(), health::open(), openapi::open()];
    groups.into_iter().flatten().collect()
}

/// Routes of the internal server.
fn internal_routes() -> Routes {
    let groups = [
        lifecycle::internal(),
        catalog_changes::internal(),
        extension_server::internal(),
        openapi::open(),
        #[cfg(feature = "testing")]
        failpoints::internal(),
    ];
    groups.into_iter().flatten().collect()
}

/// The external server. The token is asked for inside the routes, so that 404 and 405 need none.
fn external(api: Api, authenticator: Authenticator) -> Router {
    let authenticator = Arc::new(authenticator);
    let mut router = Router::new();
    for (path, methods) in protected() {
        let asked = middleware::from_fn_with_state(Arc::clone(&authenticator), auth::require_token);
        router = router.route(path, methods.route_layer(asked));
    }
    for (path, methods) in open() {
        router = router.route(path, methods);
    }
    observe::observed(router.with_state(api))
}

/// The internal server, for callers on this machine; it asks for no token.
fn internal(api: Api) -> Router {
    let mut router = Router::new();
    for (path, methods) in internal_routes() {
        router = router.route(path, methods);
    }
    observe::observed(router.with_state(api))
}
