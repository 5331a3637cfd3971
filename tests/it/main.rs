//! Integration tests: the real binary against a real Postgres and stand-in storage that speaks the
//! real bytes. One scenario per file, named after the behaviour.
//!
//! Every test runs on each PostgreSQL that is found (see [`support::servers`]), unless it says that
//! it does not depend on the server.

mod support;

mod dev_data;
mod dev_start;
mod first_start;
