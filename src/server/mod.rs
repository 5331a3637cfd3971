//! Serves HTTP/1.1 on reserved ports, within limits. It knows no API: the caller passes what answers.
//!
//! ```text
//! bind: reserve a port ──► listen ──► accept: a slot, or room by dropping an idle connection
//!                                        │                                        │
//!            tasks: what is running ◄────┴──► connection: HTTP/1.1               pool
//!                             stream: plain or TLS ◄──┴─► socket: what an upgrade leaves to the
//!                                                                     server
//! ```
//!
//! A handler may upgrade its connection (`hyper::upgrade::on`). From then on the connection is busy
//! until the handler drops it: it keeps its slot and makes no room for others, and no limit of HTTP
//! ends it. The shutdown shows the handler an end of file, and cuts the connection after the grace.
//! A handler starts work that outlives its answer with [`ServerTasks::spawn`].
//!
//! Invariant: no client can hold a resource without a limit, or keep other clients out.
//! Connections are limited in number, handshakes of TLS in time, headers in size and time, unread
//! answers in time; accepting goes on after every error; the shutdown is bounded.

mod accept;
mod bind;
mod connection;
mod limits;
mod pool;
mod socket;
mod stream;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use accept::serve;
pub(crate) use bind::{LOOPBACK, NotBound, ReservedPort};
pub(crate) use connection::Peer;
pub(crate) use limits::ServerLimits;
pub(crate) use pool::Seat;
pub(crate) use tasks::ServerTasks;
