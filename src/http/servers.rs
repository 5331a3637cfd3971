//! Starts both servers and shuts them down.

use std::sync::Arc;
use std::time::Duration;

use super::api::Api;
use super::auth::Authenticator;
use super::limits::HttpLimits;
use super::ports::{BindError, Reserved, Server};
use super::routes::{external, internal};
use crate::node::ComputeNode;
use crate::server::{self, ServerTasks};
use crate::tls::{Https, Renewal};

/// Both servers, running. Dropping this does not stop them; [`Servers::shutdown`] does.
#[derive(Debug)]
pub(crate) struct Servers {
    tasks: ServerTasks,
    /// Present if the external server speaks TLS.
    _renewal: Option<Renewal>,
}

impl Servers {
    /// Opens both ports and serves them, the external one first (03 §1), with `https` through TLS.
    /// Fails only if another
    /// program reserved a port in the same way and was faster. Must be called inside a runtime.
    pub(crate) fn start(
        reserved: Reserved,
        https: Option<Https>,
        node: Arc<ComputeNode>,
        authenticator: Authenticator,
        limits: HttpLimits,
    ) -> Result<Self, BindError> {
        let (external_port, internal_port) = (reserved.external_port(), reserved.internal_port());
        let is_open = reserved.internal.addresses_outside_loopback().next().is_some();
        for address in reserved.internal.addresses_outside_loopback() {
            tracing::warn!(
                "the internal HTTP server asks for no token and is reachable from outside, on \
                 {address} port {internal_port}: any client that reaches it can install \
                 extensions, grant privileges and have the configuration fetched again"
            );
        }
        // Both ports are opened before either is served: a failure leaves nothing half open.
        let error = |server, port| move |error| BindError { server, address: None, port, error };
        let external_listeners = reserved.external.listen(&limits.server);
        let external_listeners =
            external_listeners.map_err(error(Server::External, external_port))?;
        let internal_listeners = reserved.internal.listen(&limits.server);
        let internal_listeners =
            internal_listeners.map_err(error(Server::Internal, internal_port))?;
        let tasks = ServerTasks::default();
        let service = external(Api::of(Arc::clone(&node), limits, tasks.clone()), authenticator);
        let (tls, renewal) = https.map(|it| it.follow(node.params.timeouts.tls)).unzip();
        server::serve(external_listeners, tls.as_ref(), &service, limits.server, &tasks);
        let service = internal(Api::of(node, limits.for_internal(), tasks.clone()), is_open);
        server::serve(internal_listeners, None, &service, limits.server, &tasks);
        tracing::info!(
            "HTTP servers are listening: external on port {external_port}{}, \
             internal on port {internal_port}",
            if tls.is_some() { " with TLS" } else { "" }
        );
        Ok(Self { tasks, _renewal: renewal })
    }

    /// Stops accepting, waits at most `grace` for the requests in progress, also for those whose
    /// client has left, then drops them and cuts the connections.
    pub(crate) async fn shutdown(self, grace: Duration) {
        self.tasks.shutdown(grace).await;
    }
}
