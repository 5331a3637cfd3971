//! `compute_ctl`: the supervisor of a Neon compute.
//!
//! # The path of a spec
//!
//! ```text
//! cli ──► spec ──► node (parameters + Arc<Mutex<ComputeState>> + watch)
//!                   │
//!   http ─requests─►│ driver: the one task that changes things
//!                   │   startup ─► storage ─► postgres ─► catalog
//!                   │   reconfigure / terminate / signal
//!   http ◄─snapshots┘
//! ```
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | flags, environment variables, the checks between them |
//! | [`spec`] | the JSON documents: wire types, ids, validation, where they come from |
//! | [`state`] | statuses, the transition table, which request is legal when (pure) |
//! | [`life`] | the life of the process: prepare, run, exit code |
//! | [`page`] | the page of a compute and of its API, as HTML |
//! | [`node`] | what all tasks share: parameters, the guarded state, the watch |
//! | [`driver`] | the task that owns every change |
//! | [`configure`] | what a start and a reconfiguration share: the file and the catalog of a spec |
//! | [`startup`] | the pipeline from a spec to a running Postgres |
//! | [`storage`] | safekeepers and pageserver |
//! | [`postgres`] | the child process, its configuration, its log |
//! | [`catalog`] | roles and databases |
//! | [`sql`] | hardened sessions on the managed Postgres, the schema dump, the standby |
//! | [`http`] | the two servers |
//! | [`server`] | serves any router over HTTP/1.1, within limits |
//! | [`services`] | what the compute does for Postgres while it runs: extensions, file cache, monitor |
//! | [`vm_monitor`] | the autoscaler's side door: file cache and memory of a virtual machine |
//! | [`sidecars`] | programs beside Postgres: pgbouncer, local_proxy, rsyslog, swap and quota |
//! | [`client`] | a client of a compute, and the commands that use it, such as `compute_ctl status` |
//! | [`commands`] | runs the command of a command line |
//! | [`check`] | `compute_ctl check`: checks a configuration without a compute |
//! | [`duration`], [`errors`] | durations and errors as text |
//! | [`env`](mod@env) | all environment variables, read once |
//! | [`failpoints`] | faults that tests inject |
//! | [`http_client`] | makes every outgoing HTTP client, and limits where a credential may go |
//! | [`os`] | signals, children, privileges, limits |
//! | [`telemetry`] | log, metrics |
//! | [`secret`], [`background`] | values that no log shows; tasks that end before Postgres does |
//! | [`tls`] | the server certificate of Postgres |
//! | [`token`] | `compute_ctl token` |
//! | [`dev`] | the embedded storage behind `compute_ctl dev` and the tests |
//!
//! Dependencies point one way: no module below `http` depends on HTTP, `catalog` does not depend on
//! `startup`, and `spec` depends on no other module.

// What is public is for `main.rs`, the tests and the benchmarks.
#![warn(unreachable_pub)]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the pages are for contributors, with private items"
)]

pub(crate) mod background;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod client;
pub mod commands;
pub(crate) mod configure;
pub mod dev;
pub mod driver;
pub(crate) mod duration;
pub mod env;
pub mod errors;
pub(crate) mod failpoints;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub(crate) mod http;
pub(crate) mod http_client;
pub mod life;
mod limited;
pub mod node;
pub mod os;
pub(crate) mod page;
pub mod postgres;
pub mod secret;
pub(crate) mod server;
pub mod services;
pub mod sidecars;
pub mod spec;
pub mod sql;
pub(crate) mod startup;
pub mod state;
pub(crate) mod storage;
pub mod telemetry;
pub(crate) mod timeouts;
pub(crate) mod tls;
pub mod token;
pub mod vm_monitor;

#[cfg(test)]
mod source_rules;
#[cfg(test)]
mod sql_tests;
