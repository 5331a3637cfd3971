//! Postgres as a child: which one is installed, its start, readiness, log and end.
//!
//! ```text
//! install ─► process ─► ready ─► (serving) ─► stop ─► crash
//!               │                staged ─► reload
//!               └─► log ─► telemetry::sink
//! ```
//!
//! Beside it, [`client`] runs client programs of the same installation.
//!
//! Invariant: Postgres is started once per process and never restarted (01 §18.2).

pub mod client;
pub mod conf;
pub mod crash;
pub mod databricks;

pub mod files;
pub mod install;
pub mod limits;
pub mod log;
pub mod process;
pub mod ready;
pub mod reload;
pub mod staged;
pub mod stop;
