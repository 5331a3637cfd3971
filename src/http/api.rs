//! State that the handlers of one server share.

use std::sync::Arc;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::HttpMethod;
use utoipa_axum::PathItemExt as _;
#[cfg(test)]
use utoipa_axum::router::UtoipaMethodRouter;

use super::budget::{Bytes, CommunicatorPlaces, LongPolls};
use super::limits::HttpLimits;
use crate::node::ComputeNode;
use crate::server::ServerTasks;

/// State of the handlers of one server.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) node: Arc<ComputeNode>,
    pub(super) limits: HttpLimits,
    /// For work that goes on when its client leaves.
    pub(super) tasks: ServerTasks,
    pub(super) communicator: CommunicatorPlaces,
    pub(super) bodies: Bytes,
    pub(super) polls: LongPolls,
}

impl Api {
    /// State of one server, with full budgets.
    pub(super) fn of(node: Arc<ComputeNode>, limits: HttpLimits, tasks: ServerTasks) -> Self {
        Self {
            node,
            limits,
            tasks,
            communicator: CommunicatorPlaces::default(),
            bodies: Bytes::new(limits.bodies_bytes),
            polls: LongPolls::of(limits.server.connections),
        }
    }
}

/// Routes of one group, each with its description. A path may appear in several groups, with
/// different methods.
pub(super) type Routes = Vec<Route>;

/// The handlers of one path. [`route!`] makes it.
pub(super) struct Route {
    pub(super) path: String,
    pub(super) methods: MethodRouter<Api>,
    /// The methods by name; GET also answers HEAD.
    pub(super) verbs: Vec<Method>,
    /// Makes the description, which is compared with `openapi.json`.
    #[cfg(test)]
    pub(super) describe: fn() -> UtoipaMethodRouter<Api>,
}

/// The route of handlers that share a path: path, methods and description come from the
/// `utoipa::path` of each handler.
macro_rules! route {
    ($handler:ident $(, $more:ident)* $(,)?) => {
        pastey::paste! {
            $crate::http::api::Route {
                path: <[<__path_ $handler>] as utoipa::Path>::path(),
                methods: $crate::http::api::on::<[<__path_ $handler>], _, _>($handler)
                    $(.merge($crate::http::api::on::<[<__path_ $more>], _, _>($more)))*,
                verbs: [
                    $crate::http::api::verbs::<[<__path_ $handler>]>(),
                    $($crate::http::api::verbs::<[<__path_ $more>]>(),)*
                ].concat(),
                #[cfg(test)]
                describe: || utoipa_axum::routes!($handler $(, $more)*),
            }
        }
    };
}
pub(super) use route;

/// A handler for the methods that its description names.
pub(super) fn on<Described, H, T>(handler: H) -> MethodRouter<Api>
where
    Described: utoipa::Path,
    H: Handler<T, Api>,
    T: 'static,
{
    Described::methods().iter().fold(MethodRouter::new(), |router, method| {
        router.on(method.to_method_filter(), handler.clone())
    })
}

/// The methods that a description names.
pub(super) fn verbs<Described: utoipa::Path>() -> Vec<Method> {
    let verb = |method: &HttpMethod| match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    };
    Described::methods().iter().map(verb).collect()
}
