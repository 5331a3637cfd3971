//! Embedded storage: what stands in for a Neon cell on one machine.
//!
//! `compute_ctl dev`, the integration tests and the benchmarks start the ordinary pipeline against
//! the servers of this module, so every protocol step is the real one. Nothing in production code
//! depends on it.
//!
//! Reading order: [`servers`] finds a Postgres, [`template`] makes an `initdb` data directory of it,
//! [`archive`] packs that directory as a basebackup, [`pageserver`] and [`safekeeper`] serve it
//! (both on [`wire`] and [`framing`], recording into a [`journal`]), [`spec`] writes the document
//! that points at them, and [`sync_wrapper`] teaches a vanilla server `--sync-safekeepers`.
//!
//! Invariant: everything listens on 127.0.0.1 only, and nothing a client sends can end the process.

pub mod archive;
pub mod command;
mod commands;
pub(crate) mod control_file;
pub(crate) mod facts;
pub(crate) mod faults;
pub(crate) mod framing;
pub mod journal;
pub mod pageserver;
mod progress;
pub mod safekeeper;
pub mod servers;
pub mod spec;
pub(crate) mod store;
pub mod sync_wrapper;
pub mod template;
pub(crate) mod wire;
