//! Reaping as PID 1.
//!
//! In a container the daemon is PID 1 and inherits every orphan; elsewhere it makes itself a
//! subreaper, so that it inherits the backends of a killed postmaster and can end them, which their
//! dead parent cannot. A task sweeps at each SIGCHLD.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::children::Children;

/// Makes this process a subreaper and starts the task that reaps orphans. The task ends when the
/// handle is dropped.
///
/// Best effort for the subreaper: without it (odd sandboxes) orphans go to init as usual.
///
/// # Errors
/// SIGCHLD cannot be listened to.
pub(crate) fn start(children: Children) -> io::Result<AbortOnDropHandle<()>> {
    if let Err(errno) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::warn!("could not become a subreaper, orphans go to init: {errno}");
    }
    let mut ended = signal(SignalKind::child())?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        // The first round covers what ended before the listener was there.
        loop {
            let reaped = children.reap_orphans();
            if reaped > 0 {
                tracing::debug!(reaped, "reaped orphans");
            }
            if ended.recv().await.is_none() {
                return;
            }
        }
    })))
}
