//! Brings the catalog of the running Postgres to what the spec says, over SQL (05).
//!
//! ```text
//!  snapshot ─► plan ─► execute ──────────────► report
//!                       └─► inspect, plan (inside each database)
//! ```
//!
//! Sessions and quoting come from [`sql`](crate::sql); [`options`] turns options of the spec into
//! SQL. [`snapshot`] reads the cluster at once, [`plan`] compares it with the spec, [`execute`]
//! carries the plan out with the sessions of a [`pool`], and [`report`] records the result for
//! each object; [`mod@apply`] runs all of this in order. In Lakebase mode [`lakebase`] reads more
//! than the snapshot. [`migrations`] upgrades clusters that older releases made,
//! [`neon_extension`] updates the extension. Routes of the API use [`grants`], [`insights`],
//! [`install_extension`], [`listing`] and [`writability`]; [`protected`] says what requests must
//! not change. [`trust`] has the rules that every SQL text obeys. This room knows the spec and
//! nothing of start-up.

pub mod apply;
pub(crate) mod concurrency;
pub mod execute;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod grants;
pub(crate) mod insights;
pub(crate) mod inspect;
pub(crate) mod install_extension;
pub(crate) mod lakebase;
pub(crate) mod listing;
pub(crate) mod migrations;
pub(crate) mod neon_extension;
pub mod operation;
pub(crate) mod options;
pub(crate) mod passwords;
pub mod plan;
pub mod pool;
pub(crate) mod protected;
pub(crate) mod query_error;
pub(crate) mod recheck;
pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod trust;
pub(crate) mod writability;
