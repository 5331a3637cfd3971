//! The two HTTP servers (03).
//!
//! ```text
//! listen: reserve ports ──► serve: accept, limits ──► observe: request id, access log, panics
//!                                                        │
//!            auth ◄── protected external routes ◄────────┼──► internal routes
//!              │                                         └──► open external routes
//!              └──► body ──► lifecycle, metrics, probes ──► node
//!                        └──► database, catalog_changes, health ──► Postgres
//! ```
//!
//! Each group of routes is one file that lists its `Routes`; `routes` puts them together. Handlers
//! ask the node and turn what it says into answers; `error` maps errors to statuses. Nothing below
//! this module knows HTTP.

mod answers;
mod api;
mod auth;
mod body;
mod budget;
mod catalog_changes;
mod claims;
mod communicator;
mod database;
mod error;
mod extension_server;
#[cfg(feature = "testing")]
mod failpoints;
mod hadron_liveness;
mod health;
mod lfc;
mod lifecycle;
mod limits;
mod listen;
mod metrics;
mod observe;
mod openapi;
mod pool;
mod promotion;
mod ready;
mod routes;
mod serve;
mod sql;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod wait;

pub use auth::{AuthMode, Authenticator};
pub use limits::HttpLimits;
pub use listen::{BindError, Reserved, Server, reserve};
pub use serve::Servers;
