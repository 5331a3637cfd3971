//! The configuration files of Postgres: what is written, what Postgres makes of it, and whether a
//! reload took.

mod as_postgres_reads_it;
mod refused;
mod reload_confirmed;
mod server_log;
mod subscribers;
mod values;
