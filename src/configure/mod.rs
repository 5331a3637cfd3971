//! What a start and a reconfiguration have in common: the configuration file of a spec and its
//! catalog (01 §10 to §13).
//!
//! ```text
//!  start          check_preload_libraries ─► log_remarks ─► … ─► apply_after_start ─► background
//!  reconfigure    stage ─► … reload … ─► apply_in_turn
//! ```
//!
//! The order of the steps around these, and what is taken back when one fails, belongs to
//! `startup` and to `driver`; nothing here knows them.

pub(crate) mod background;
pub(crate) mod catalog;
pub(crate) mod configuration;
