//! The steps that a start and a reconfiguration share: the configuration file of a spec and its
//! catalog (01 §10 to §13).
//!
//! ```text
//!  start          log_remarks ─► … ─► apply_after_start ─► background
//!  reconfigure    stage ─► … reload … ─► apply_in_turn
//! ```
//!
//! `startup` and `driver` decide the order of the other steps and the rollback after a failure;
//! this module depends on neither.

pub(crate) mod background;
pub(crate) mod catalog;
pub(crate) mod configuration;
pub(crate) mod not_applied;
pub(crate) mod unseen;
