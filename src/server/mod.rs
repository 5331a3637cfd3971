//! Serves HTTP/1.1 on reserved ports, within limits. It knows no API: it is given a router.
//!
//! ```text
//! bind: reserve a port ──► listen ──► accept: a slot, or room by dropping an idle connection
//!                                        │                                        │
//!            tasks: what is running ◄────┴──► connection: HTTP/1.1               pool
//! ```
//!
//! Invariant: nothing that a client does or omits holds a resource for ever, or keeps others out.
//! Connections are limited in number, headers in size and time, unread answers in time; accepting
//! goes on after every error; the shutdown is bounded.

mod accept;
mod bind;
mod connection;
mod limits;
mod pool;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use accept::serve;
pub(crate) use bind::{LOOPBACK, ReservedPort};
pub(crate) use connection::Peer;
pub(crate) use limits::ServerLimits;
pub(crate) use pool::Seat;
pub(crate) use tasks::ServerTasks;
