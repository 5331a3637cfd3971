//! The two HTTP servers (03).
//!
//! ```text
//! ports: reserve ──► servers: start ──► `crate::server` ──► observe: request id, access log, panics
//!                                                              │
//!                  auth ◄── protected external routes ◄────────┼──► internal routes
//!                    │                                         └──► open external routes
//!                    └──► body ──► lifecycle, metrics, health ──► node
//!                              └──► database, catalog_changes ──► Postgres
//! ```
//!
//! Each group of routes is one file that lists its handlers; `routes` combines the groups. Handlers
//! ask the node and turn its result into an answer; `error` maps errors to statuses, and `uniform`
//! turns what is left into the same document, whichever route or layer it comes from. No module
//! below this one knows HTTP.

mod answers;
mod api;
mod auth;
mod body;
mod budget;
mod catalog_changes;
mod claims;
mod communicator;
mod counted;
mod database;
mod description;
mod error;
#[cfg(test)]
mod examples;
mod extension_server;
#[cfg(feature = "testing")]
mod failpoints;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hadron_liveness;
mod health;
mod keys;
mod lfc;
mod lifecycle;
mod limits;
mod log;
mod log_level;
mod metrics;
#[cfg(test)]
mod named;
mod observe;
#[cfg(test)]
mod openapi;
mod page;
mod ports;
mod promotion;
mod restart;
mod routes;
mod servers;
mod sql;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod uniform;
mod verdict;
mod wait;

pub(crate) use auth::{AuthMode, Authenticator};
pub(crate) use keys::unusable_keys;
pub(crate) use limits::HttpLimits;
pub(crate) use ports::{Reserved, reserve, reserve_beside};
pub(crate) use servers::Servers;
pub(crate) use verdict::{Opens, verdict};
