//! The route `/monitor` (08 §2): one agent at a time, and the newest one wins.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::connection::{End, speak};
use super::limits::{BUFFER, MESSAGE};
use super::shared::Shared;
use crate::errors::one_line;
use crate::server::Peer;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/monitor", get(upgrade)).with_state(shared)
}

/// Answers a request that is a valid upgrade; the extractor refuses others. The present connection
/// ends at once, even if the new agent says nothing further: the old one may be gone without a
/// trace.
async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Extension(Peer(peer)): Extension<Peer>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let deadline = Instant::now() + shared.limits.handshake;
    let present = shared.take_over();
    // The library waits for the socket in a task of its own; everything else is in ours, which the
    // end of the monitor waits for.
    let (sender, socket) = oneshot::channel();
    shared.background.spawn({
        let shared = Arc::clone(&shared);
        async move {
            let Ok(Ok(socket)) = timeout_at(deadline, socket).await else {
                tracing::info!("the connection of the agent {peer} was lost in the upgrade");
                return;
            };
            let ended = present.run_until_cancelled(speak(socket, peer, &shared, deadline)).await;
            let Some(end) = ended else {
                tracing::info!("the agent {peer} is replaced by another connection");
                return;
            };
            // A successor shows itself.
            if !present.is_cancelled() {
                shared.board.agent(None);
            }
            match end {
                End::Closed | End::Over => tracing::info!("the agent {peer} is gone: {end}"),
                end => tracing::warn!(
                    "the connection of the agent {peer} is dropped: {}",
                    one_line(&end)
                ),
            }
        }
    });
    let upgrade = upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE);
    let upgrade = upgrade.read_buffer_size(BUFFER).write_buffer_size(0);
    upgrade.on_upgrade(|socket| async move {
        let _ = sender.send(socket);
    })
}
