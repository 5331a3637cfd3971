//! The two HTTP servers (03).
//!
//! ```text
//! listen: reserve ports ──► serve: accept, limits ──► observe: request id, access log, panics
//!                                                        │
//!            auth ◄── protected external routes ◄────────┼──► internal routes
//!              │                                         └──► open external routes
//!              └──► body ──► lifecycle, metrics ──► node
//! ```
//!
//! Each group of routes is one file that lists its `Routes`; it is added in `external` or
//! `internal`. Handlers ask the node and turn what it says into answers; `error` maps errors
//! to statuses. Nothing below this module knows HTTP.

mod auth;
mod body;
mod claims;
mod error;
mod extension_server;
mod lfc;
mod lifecycle;
mod listen;
mod metrics;
mod observe;
mod serve;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

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
}

/// Routes of one group. A path may appear in several groups, with different methods.
type Routes = Vec<(&'static str, MethodRouter<Api>)>;

/// The external server. The token is asked for inside the routes, so that 404 and 405 need none.
fn external(api: Api, authenticator: Authenticator) -> Router {
    let authenticator = Arc::new(authenticator);
    let mut router = Router::new();
    let groups = [lifecycle::protected(), metrics::protected(), lfc::protected()];
    for (path, methods) in groups.into_iter().flatten() {
        let asked = middleware::from_fn_with_state(Arc::clone(&authenticator), auth::require_token);
        router = router.route(path, methods.route_layer(asked));
    }
    for (path, methods) in metrics::open() {
        router = router.route(path, methods);
    }
    observe::observed(router.with_state(api))
}

/// The internal server, for callers on this machine; it asks for no token.
fn internal(api: Api) -> Router {
    let mut router = Router::new();
    let groups = [lifecycle::internal(), extension_server::internal()];
    for (path, methods) in groups.into_iter().flatten() {
        router = router.route(path, methods);
    }
    observe::observed(router.with_state(api))
}
