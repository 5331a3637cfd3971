//! The catalog of the running Postgres: what the spec says about it is brought into it over SQL
//! (05).
//!
//! [`session`] connects in a way that no user setting can break, [`quote`] turns names and options
//! into SQL, [`roles_and_databases`] compares and changes, [`neon_extension`] looks after the
//! extension. What the API asks of the catalog is in [`grants`], [`insights`],
//! [`install_extension`], [`listing`] and [`writability`]. Knows the spec and nothing of start-up.

pub mod grants;
pub mod insights;
pub mod install_extension;
pub mod listing;
pub mod neon_extension;
pub mod query_error;
pub mod quote;
pub mod roles_and_databases;
pub mod session;
pub mod writability;
