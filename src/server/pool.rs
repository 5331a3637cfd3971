//! The connections of one server, and which of them is dropped when there is no room.
//!
//! A connection is busy from the head of a request to the last byte of the answer's body, except
//! while the server reads the body of the request; else it waits for its client. The pool keeps
//! waiting connections in the order in which they began to wait. When another client connects and
//! there is no room, the first of them is dropped. So thousands of clients that send one byte and
//! stall do not delay the next client: they displace each other.
//!
//! A connection that was upgraded to another protocol is busy until it is closed, because the
//! server does not know whether it waits for its client.
//!
//! A waiting connection also has a limit of time: a short one for the head of a request that has
//! begun, so that no client can trickle, and a longer one between two requests.
//!
//! Invariant: a busy connection is never dropped here. A connection that has been chosen may get its
//! request before it notices. Such a request is not begun: it could take effect, and its client would
//! never learn that it has.

use std::any::Any;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Connections that wait for their clients, in the order in which they began to wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    connections: BTreeMap<u64, CancellationToken>,
}

impl Pool {
    /// Adds a connection that has just been accepted; it waits for its client.
    pub(super) fn join(&self) -> Seat {
        let seat = Seat {
            pool: self.clone(),
            dropped: CancellationToken::new(),
            place: Arc::default(),
            turn: Arc::new(watch::Sender::new(Turn { number: 0, kind: Kind::Head })),
            upgraded: Arc::default(),
            kept: Arc::default(),
        };
        seat.wait();
        seat
    }

    /// Drops the connections that have waited longest, `count` at most. Returns the number dropped.
    pub(super) fn drop_longest_waiting(&self, count: usize) -> usize {
        let mut dropped = 0;
        while dropped < count {
            let Some((_, connection)) = self.0.lock().connections.pop_first() else { break };
            connection.cancel();
            dropped += 1;
        }
        dropped
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For the rest of a head. A new connection, too: it was made for a request.
    Head,
    /// For the server.
    Answer,
    /// For the next request.
    Idle,
}

/// One period of a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    /// Differs from that of the turn before, so that a turn that has come back is another one.
    number: u64,
    kind: Kind,
}

/// One connection. Clones stand for the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pool: Pool,
    /// Cancelled when another connection needs the room.
    pub(super) dropped: CancellationToken,
    /// Position among the waiting connections; none while this one is busy.
    place: Arc<Mutex<Option<u64>>>,
    turn: Arc<watch::Sender<Turn>>,
    /// The connection speaks another protocol, and never waits again.
    upgraded: Arc<AtomicBool>,
    /// A value that the request in progress holds until its end.
    kept: Arc<Mutex<Option<Box<dyn Any + Send>>>>,
}

impl Seat {
    fn wait(&self) {
        if self.is_upgraded() {
            return;
        }
        let mut waiting = self.pool.0.lock();
        let place = waiting.next;
        waiting.next = place.wrapping_add(1);
        waiting.connections.insert(place, self.dropped.clone());
        drop(waiting);
        *self.place.lock() = Some(place);
    }

    /// Leaves the waiting connections. Returns false if this one has been chosen to make room: it is
    /// about to be dropped, and must not begin anything.
    #[must_use]
    fn leave(&self) -> bool {
        let Some(place) = self.place.lock().take() else { return true };
        self.pool.0.lock().connections.remove(&place).is_some()
    }

    /// Forgets a connection that has ended.
    pub(super) fn end(&self) {
        let _ = self.leave();
    }

    /// Makes the connection busy until it ends. Called while a request is in progress.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// Lets the connection count as waiting within a request, while it reads the body. Never ends if
    /// the connection has been chosen to make room: it is about to be dropped.
    pub(crate) async fn waits_for_body<T>(&self, read: impl Future<Output = T>) -> T {
        self.wait();
        let waits = Waits(self);
        let body = read.await;
        if !waits.0.leave() {
            std::future::pending::<()>().await;
        }
        body
    }

    /// Keeps a value until the request in progress is over: until the client has read the answer,
    /// or the connection has ended.
    pub(crate) fn keep(&self, value: impl Send + 'static) {
        *self.kept.lock() = Some(Box::new(value));
    }

    /// Makes the connection busy until the guard is dropped. HTTP/1.1 has one request at a time.
    /// Never ends if the connection has been chosen to make room: it is about to be dropped.
    pub(super) async fn busy(&self) -> Busy {
        if !self.leave() {
            std::future::pending::<()>().await;
        }
        self.turn_to(Kind::Answer);
        Busy(self.clone())
    }

    fn turn_to(&self, kind: Kind) {
        self.turn.send_modify(|turn| *turn = Turn { number: turn.number.wrapping_add(1), kind });
    }

    /// Bytes of the client have been read. Between two requests they begin a head.
    pub(super) fn bytes_arrive(&self) {
        if self.turn.borrow().kind == Kind::Idle {
            self.turn_to(Kind::Head);
        }
    }

    /// Ends when the client has taken longer than `head` for a head, or has been idle for longer
    /// than `idle`; returns the limit.
    pub(super) async fn client_too_slow(&self, head: Duration, idle: Duration) -> Duration {
        let mut turns = self.turn.subscribe();
        loop {
            let turn = *turns.borrow_and_update();
            let over = turns.wait_for(|later| *later != turn);
            let limit = match turn.kind {
                Kind::Head => head,
                Kind::Idle => idle,
                // The seat holds the sender, so this ends only with the next turn.
                Kind::Answer => {
                    let _ = over.await;
                    continue;
                }
            };
            if timeout(limit, over).await.is_err() {
                return limit;
            }
        }
    }
}

/// A connection with a request in progress.
#[derive(Debug)]
pub(super) struct Busy(Seat);

impl Drop for Busy {
    fn drop(&mut self) {
        let kept = self.0.kept.lock().take();
        drop(kept);
        if !self.0.is_upgraded() {
            self.0.turn_to(Kind::Idle);
        }
        self.0.wait();
    }
}

/// A connection that waits for the body of its request.
struct Waits<'a>(&'a Seat);

impl Drop for Waits<'_> {
    /// Also if reading is given up.
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of an answer; it keeps its connection busy.
#[derive(Debug)]
pub(super) struct BusyBody {
    pub(super) body: Body,
    pub(super) _busy: Busy,
}

impl HttpBody for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    /// `None` if the connection was chosen to make room before.
    fn begun(seat: &Seat) -> Option<Busy> {
        seat.busy().now_or_never()
    }

    #[test]
    fn the_longest_waiting_connection_is_dropped_first_and_a_busy_one_never() {
        let pool = Pool::default();
        let [first, second, third] = [(); 3].map(|()| pool.join());
        let busy = begun(&first).unwrap();
        assert_eq!(pool.drop_longest_waiting(1), 1);
        assert!(second.dropped.is_cancelled());
        assert!(!first.dropped.is_cancelled() && !third.dropped.is_cancelled());
        // The first connection has now waited for a shorter time than the third.
        drop(busy);
        assert_eq!(pool.drop_longest_waiting(1), 1);
        assert!(third.dropped.is_cancelled() && !first.dropped.is_cancelled());
        assert_eq!(pool.drop_longest_waiting(9), 1);
        assert!(first.dropped.is_cancelled());
        assert_eq!(pool.drop_longest_waiting(9), 0);
    }

    #[test]
    fn a_connection_waiting_for_a_body_may_be_dropped_and_frees_what_it_kept() {
        let pool = Pool::default();
        let seat = pool.join();
        let busy = begun(&seat).unwrap();
        assert_eq!(seat.waits_for_body(ready("read")).now_or_never(), Some("read"));
        assert_eq!(pool.drop_longest_waiting(9), 0, "it is busy again");
        assert_eq!(seat.waits_for_body(pending::<()>()).now_or_never(), None);
        assert_eq!(pool.drop_longest_waiting(9), 0, "reading was given up");
        let kept = Arc::new(());
        seat.keep(Arc::clone(&kept));
        let read = async {
            assert_eq!(pool.drop_longest_waiting(9), 1);
        };
        assert_eq!(seat.waits_for_body(read).now_or_never(), None);
        assert_eq!(Arc::strong_count(&kept), 2);
        drop(busy);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    /// The end of the connection and its request may come at the same moment: the request is answered
    /// or not begun.
    #[test]
    fn a_connection_chosen_to_make_room_begins_nothing() {
        let pool = Pool::default();
        let [new, kept, reading] = [(); 3].map(|()| pool.join());
        drop(begun(&kept).unwrap());
        let busy = begun(&reading).unwrap();
        let mut body = Box::pin(reading.waits_for_body(async {
            tokio::task::yield_now().await;
        }));
        assert_eq!(body.as_mut().now_or_never(), None, "the body has not come");
        assert_eq!(pool.drop_longest_waiting(9), 3);
        assert!(begun(&new).is_none() && begun(&kept).is_none());
        assert_eq!(body.as_mut().now_or_never(), None, "the body came too late");
        drop(body);
        drop(busy);
    }

    #[test]
    fn an_upgraded_connection_is_never_dropped() {
        let pool = Pool::default();
        let seat = pool.join();
        let busy = begun(&seat).unwrap();
        seat.upgrade();
        drop(busy);
        assert_eq!(seat.waits_for_body(ready("read")).now_or_never(), Some("read"));
        assert_eq!(pool.drop_longest_waiting(9), 0);
        assert!(begun(&seat).is_some());
    }

    /// Seconds until the client is too slow; none if it is not within an hour.
    async fn seconds_left(seat: &Seat) -> Option<u64> {
        let began = tokio::time::Instant::now();
        let slow = seat.client_too_slow(Duration::from_secs(60), Duration::from_secs(180));
        let limit = timeout(Duration::from_secs(3600), slow).await.ok()?;
        assert_eq!(began.elapsed(), limit);
        Some(limit.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_less_time_than_the_pause_between_requests() {
        let pool = Pool::default();
        let seat = pool.join();
        assert_eq!(seconds_left(&seat).await, Some(60), "a new connection");
        seat.bytes_arrive();
        let busy = seat.busy().await;
        seat.bytes_arrive();
        assert_eq!(seconds_left(&seat).await, None, "the server is at work");
        seat.waits_for_body(ready(())).await;
        drop(busy);
        assert_eq!(seconds_left(&seat).await, Some(180), "kept for the next request");
        seat.bytes_arrive();
        assert_eq!(seconds_left(&seat).await, Some(60), "which has begun");
        // More bytes of a head do not give it more time, but the next head has its own.
        let slow = seat.client_too_slow(Duration::from_secs(60), Duration::from_secs(180));
        let trickle = async {
            for _ in 0..9 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                seat.bytes_arrive();
            }
        };
        tokio::select! {
            _ = slow => {}
            () = trickle => panic!("a trickle keeps the connection"),
        }
        let slow = seat.client_too_slow(Duration::from_secs(60), Duration::from_secs(180));
        let requests = async {
            for _ in 0..9 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                drop(seat.busy().await);
                seat.bytes_arrive();
            }
        };
        tokio::select! {
            _ = slow => panic!("each head had less than its time"),
            () = requests => {}
        }
        let busy = seat.busy().await;
        seat.upgrade();
        drop(busy);
        assert_eq!(seconds_left(&seat).await, None, "upgraded");
    }

    #[test]
    fn a_connection_that_has_left_is_forgotten() {
        let pool = Pool::default();
        let seat = pool.join();
        drop(begun(&seat).unwrap());
        seat.end();
        assert!(pool.0.lock().connections.is_empty());
    }
}
