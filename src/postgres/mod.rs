//! Postgres as a child process: installation, start, readiness, log and end.
//!
//! ```text
//! install ─► process ─► ready ─► (serving) ─► stop ─► crash
//!               │                staged ─► reload
//!               └─► log ─► telemetry::sink
//! ```
//!
//! In addition, [`client`] runs client programs of the same installation.
//!
//! Invariant: Postgres is started once per process and never restarted (01 §18.2).

pub(crate) mod client;
pub mod conf;
pub(crate) mod crash;
pub(crate) mod databricks;

pub(crate) mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod install;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod ready;
pub(crate) mod reload;
pub(crate) mod staged;
pub(crate) mod stop;
mod version;
