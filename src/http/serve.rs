//! Accepts connections and speaks HTTP/1.1 on them.
//!
//! Invariant: nothing that a client does or omits holds a resource for ever, or keeps others out.
//! Connections are limited in number, and the longest idle one makes room ([`super::pool`]);
//! headers are limited in size and time, bodies by [`super::body`], all bodies and long polls
//! together by [`super::budget`], unread answers by
//! [`super::listen`]; accepting goes on after every error; the end is bounded.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::limits::HttpLimits;
use super::pool::{BusyBody, Pool, Seat};

/// Pause after an error of accept that nothing can be done about.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Pause after the table of descriptors was full: time for dropped connections to close.
const ROOM_BACKOFF: Duration = Duration::from_millis(10);

/// Connections dropped at once when the table of descriptors is full.
const ROOM: usize = 32;

/// Address of the client, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Both servers at work. They go on when this is dropped; [`Servers::shutdown`] ends them.
#[derive(Debug)]
pub struct Servers {
    external_port: u16,
    internal_port: u16,
    limits: HttpLimits,
    tasks: TaskTracker,
    /// No new connections and requests; those in progress are finished.
    closing: CancellationToken,
    /// Everything ends at once.
    aborting: CancellationToken,
}

impl Servers {
    pub(super) fn new(external_port: u16, internal_port: u16, limits: HttpLimits) -> Self {
        Self {
            external_port,
            internal_port,
            limits,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
        }
    }

    /// The port of the external server.
    pub fn external_port(&self) -> u16 {
        self.external_port
    }

    /// The port of the internal server.
    pub fn internal_port(&self) -> u16 {
        self.internal_port
    }

    /// Serves one router on some listeners. Must be called inside a runtime.
    pub(super) fn serve(&mut self, listeners: Vec<TcpListener>, router: Router) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let pool = Pool::default();
        for listener in listeners {
            let acceptor = Acceptor {
                router: router.clone(),
                slots: Arc::clone(&slots),
                pool: pool.clone(),
                limits: self.limits,
                tasks: self.tasks.clone(),
                closing: self.closing.clone(),
                aborting: self.aborting.clone(),
            };
            let closing = self.closing.clone();
            self.tasks.spawn(async move {
                closing.run_until_cancelled(acceptor.accept_all(listener)).await;
            });
        }
    }

    /// Accepts nothing more, lets requests in progress end for at most `grace`, then cuts the
    /// connections.
    pub async fn shutdown(self, grace: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!("{} HTTP connections did not end in time", self.tasks.len());
            self.aborting.cancel();
            self.tasks.wait().await;
        }
    }
}

/// What the tasks of one server share.
struct Acceptor {
    router: Router,
    slots: Arc<Semaphore>,
    pool: Pool,
    limits: HttpLimits,
    tasks: TaskTracker,
    closing: CancellationToken,
    aborting: CancellationToken,
}

impl Acceptor {
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
            let connection = self.connection(stream, peer, seat.clone());
            let aborting = self.aborting.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = aborting.cancelled() => {}
                    () = seat.dropped.cancelled() => {
                        tracing::debug!("dropped the idle HTTP connection of {peer}: no room");
                    }
                    () = connection => {}
                }
                seat.leave();
                drop(slot);
            });
        }
    }

    /// Room for one more connection, at the expense of the longest idle one. Where all are busy it
    /// is looked again for one, until there is room. None is never seen: nobody closes the semaphore.
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

    /// What can be done about an error of accept; returns how long to wait before the next try,
    /// so that an error that stays does not keep a processor busy.
    fn make_room_after(&self, error: &io::Error) -> Duration {
        use nix::libc::{EMFILE, ENFILE};
        let full = matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
        if full && self.pool.drop_longest_waiting(ROOM) > 0 { ROOM_BACKOFF } else { ACCEPT_BACKOFF }
    }

    /// All requests of one connection.
    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        seat: Seat,
    ) -> impl Future<Output = ()> + use<> {
        let router = self.router.clone();
        let limits = self.limits;
        let closing = self.closing.clone();
        async move {
            // Answers are small and waited for; nothing is gained by gathering them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("could not set TCP_NODELAY for {peer}: {error}");
            }
            let service = service_fn(move |request: Request<Incoming>| {
                let seat = seat.clone();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Peer(peer));
                request.extensions_mut().insert(seat.clone());
                let answer = router.clone().oneshot(request);
                async move {
                    // Not before it is worked on: a request that waits until the client has read
                    // the answer before it must not keep the seat.
                    let busy = seat.busy();
                    Ok::<_, Infallible>(answer.await?.map(|body| BusyBody { body, _busy: busy }))
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_read)
                .max_header_size(limits.header_bytes)
                .max_buf_size(limits.header_bytes.max(8192))
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!("HTTP connection of {peer} ended: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Either somebody is dropped, or there is a pause that keeps the loop from spinning.
    #[test]
    fn a_full_table_of_descriptors_drops_idle_connections() {
        let acceptor = Acceptor {
            router: Router::new(),
            slots: Arc::new(Semaphore::new(1)),
            pool: Pool::default(),
            limits: HttpLimits::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
        };
        let full = io::Error::from_raw_os_error(nix::libc::EMFILE);
        let other = io::Error::from_raw_os_error(nix::libc::ECONNABORTED);
        assert_eq!(acceptor.make_room_after(&full), ACCEPT_BACKOFF, "nobody to drop");
        let seats: Vec<_> = (0..=ROOM).map(|_| acceptor.pool.join()).collect();
        assert_eq!(acceptor.make_room_after(&other), ACCEPT_BACKOFF);
        assert!(seats.iter().all(|seat| !seat.dropped.is_cancelled()));
        assert_eq!(acceptor.make_room_after(&full), ROOM_BACKOFF);
        let dropped = seats.iter().map(|seat| seat.dropped.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(dropped, [vec![true; ROOM], vec![false]].concat());
    }
}
