//! The catalog of the running Postgres: what the spec says about it is brought into it over SQL
//! (05).
//!
//! ```text
//!  snapshot ─► plan ─► execute ──────────────► report
//!                       └─► inspect, plan (inside each database)
//! ```
//!
//! Sessions and quoting come from [`sql`](crate::sql); [`options`] turns options of the spec into SQL.
//! [`snapshot`] reads the cluster at once, [`plan`] compares it with the spec, [`execute`]
//! carries the plan out with the sessions of a [`pool`], and [`report`] says what became of each
//! object; [`mod@apply`] is all of this in order. In Lakebase mode [`lakebase`] reads more than the
//! snapshot. [`migrations`] does what older releases left to do, [`neon_extension`] updates the
//! extension. What the API asks of the catalog is in [`grants`], [`insights`], [`install_extension`],
//! [`listing`] and [`writability`]; what requests may not touch is in [`protected`]. [`trust`] has the
//! rules that every SQL text obeys. Knows the spec and nothing of start-up.

pub mod apply;
pub mod concurrency;
pub mod execute;
pub mod grants;
pub mod insights;
pub mod inspect;
pub mod install_extension;
pub mod lakebase;
pub mod listing;
pub mod migrations;
pub mod neon_extension;
pub mod operation;
pub mod options;
pub mod passwords;
pub mod plan;
pub mod pool;
pub mod protected;
pub mod query_error;
pub mod report;
pub mod snapshot;
pub mod trust;
pub mod writability;
