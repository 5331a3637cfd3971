//! The configuration files of Postgres: what is written, how Postgres reads it, and whether a
//! reload took effect.

mod as_postgres_reads_it;
mod refused;
mod reload_confirmed;
mod server_log;
mod subscribers;
mod values;
