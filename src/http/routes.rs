//! Which routes each server has, and what lies around them.
//!
//! Each group of routes is one file that lists its `Routes`; it is added to a server here.

use std::sync::Arc;

use axum::Router;
use axum::middleware;

use super::api::{Api, Routes};
use super::auth::{self, Authenticator};
#[cfg(feature = "testing")]
use super::failpoints;
use super::{
    catalog_changes, communicator, database, extension_server, hadron_liveness, health, lfc,
    lifecycle, metrics, observe, openapi, promotion,
};

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
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
pub(super) fn open() -> Routes {
    let groups = [metrics::open(), communicator::open(), health::open(), openapi::open()];
    groups.into_iter().flatten().collect()
}

/// Routes of the internal server.
pub(super) fn internal_routes() -> Routes {
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
pub(super) fn external(api: Api, authenticator: Authenticator) -> Router {
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
pub(super) fn internal(api: Api) -> Router {
    let mut router = Router::new();
    for (path, methods) in internal_routes() {
        router = router.route(path, methods);
    }
    observe::observed(router.with_state(api))
}
