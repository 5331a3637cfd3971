//! What the benchmarks share: their command line, the machine they run on, a process under
//! measurement, a client that costs nothing, and figures.

#![allow(dead_code, reason = "no benchmark needs all of it")]

pub mod arguments;
pub mod client;
pub mod host;
pub mod process;
pub mod samples;
