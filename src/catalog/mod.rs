//! The catalog of the running Postgres: what the spec says about it is brought into it over SQL
//! (05).
//!
//! [`session`] connects in a way that no user setting can break, [`quote`] turns names and options
//! into SQL, [`roles_and_databases`] compares and changes, [`migrations`] does what older
//! releases left to do, [`neon_extension`] looks after the extension. Knows the spec and nothing of start-up.

pub mod migrations;
pub mod neon_extension;
pub mod quote;
pub mod roles_and_databases;
pub mod session;
