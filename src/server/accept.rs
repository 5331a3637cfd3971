//! Accepts connections, and drops idle ones to make room.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::{Answers, Connection};
use super::limits::ServerLimits;
use super::pool::Pool;
use super::stream::TlsConfigs;
use super::tasks::ServerTasks;

/// Pause after an error of accept that dropping connections cannot cure.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Pause after the table of descriptors was full, in which dropped connections close.
const ROOM_BACKOFF: Duration = Duration::from_millis(10);

/// Connections dropped at once when the table of descriptors is full.
const ROOM: usize = 32;

/// Answers requests on some listeners, which share the limits; with `tls` only through TLS. Must be
/// called inside a runtime.
pub(crate) fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<&TlsConfigs>,
    service: &impl Answers,
    limits: ServerLimits,
    tasks: &ServerTasks,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let pool = Pool::default();
    for listener in listeners {
        let acceptor = Acceptor {
            tls: tls.cloned(),
            service: service.clone(),
            slots: Arc::clone(&slots),
            pool: pool.clone(),
            limits,
            tasks: tasks.clone(),
        };
        let closing = tasks.closing().clone();
        tasks.spawn(async move {
            closing.run_until_cancelled(acceptor.accept_all(listener)).await;
        });
    }
}

/// Accepts from one listener of a server.
struct Acceptor<S> {
    tls: Option<TlsConfigs>,
    service: S,
    slots: Arc<Semaphore>,
    pool: Pool,
    limits: ServerLimits,
    tasks: ServerTasks,
}

impl<S: Answers> Acceptor<S> {
    async fn accept_all(&self, listener: TcpListener) {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("could not accept an HTTP connection: {error}");
                    tokio::time::sleep(self.make_room_after(&error)).await;
                    continue;
                }
            };
            let Some(slot) = self.slot().await else { return };
            let seat = self.pool.join();
            let connection = Connection {
                peer,
                // The newest; this connection keeps it.
                tls: self.tls.as_ref().map(|configs| Arc::clone(&configs.borrow())),
                service: self.service.clone(),
                limits: self.limits,
                seat: seat.clone(),
                closing: self.tasks.closing().clone(),
            };
            self.tasks.spawn(async move {
                tokio::select! {
                    () = seat.dropped.cancelled() => {
                        tracing::debug!("dropped the idle HTTP connection of {peer}: no room");
                    }
                    () = connection.serve(stream) => {}
                }
                seat.end();
                drop(slot);
            });
        }
    }

    /// Gets a slot for one more connection, if need be by dropping the longest idle one. While all
    /// connections are busy it tries again until a slot is free. Never returns None, because the
    /// semaphore is never closed.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(slot);
        }
        loop {
            self.pool.drop_longest_waiting(1);
            let slot = Arc::clone(&self.slots).acquire_owned();
            if let Ok(slot) = timeout(ACCEPT_BACKOFF, slot).await {
                return slot.ok();
            }
        }
    }

    /// Drops connections if that can cure an error of accept. Returns how long to wait before the
    /// next try, so that a lasting error does not keep a processor busy.
    fn make_room_after(&self, error: &io::Error) -> Duration {
        use nix::libc::{EMFILE, ENFILE};
        let full = matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
        if full && self.pool.drop_longest_waiting(ROOM) > 0 { ROOM_BACKOFF } else { ACCEPT_BACKOFF }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Either a connection is dropped, or there is a pause that keeps the loop from spinning.
    #[test]
    fn a_full_table_of_descriptors_drops_idle_connections() {
        let acceptor = Acceptor {
            tls: None,
            service: axum::Router::new(),
            slots: Arc::new(Semaphore::new(1)),
            pool: Pool::default(),
            limits: ServerLimits::default(),
            tasks: ServerTasks::default(),
        };
        let full = io::Error::from_raw_os_error(nix::libc::EMFILE);
        let other = io::Error::from_raw_os_error(nix::libc::ECONNABORTED);
        assert_eq!(acceptor.make_room_after(&full), ACCEPT_BACKOFF, "none to drop");
        let seats: Vec<_> = (0..=ROOM).map(|_| acceptor.pool.join()).collect();
        assert_eq!(acceptor.make_room_after(&other), ACCEPT_BACKOFF);
        assert!(seats.iter().all(|seat| !seat.dropped.is_cancelled()));
        assert_eq!(acceptor.make_room_after(&full), ROOM_BACKOFF);
        let dropped = seats.iter().map(|seat| seat.dropped.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(dropped, [vec![true; ROOM], vec![false]].concat());
    }
}
