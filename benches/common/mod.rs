//! What the benchmarks share: their command line, the machine they run on, a process under
//! measurement, stand-ins and a client that cost nothing, and figures.

#![allow(dead_code, reason = "no benchmark needs all of it")]

pub mod arguments;
pub mod client;
pub mod host;
pub mod process;
pub mod samples;
pub mod stand_in;
