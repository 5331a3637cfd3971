//! Hardened sessions on the managed Postgres, and two uses of them beside the catalog: the schema
//! dump and the promotion of a standby (01 §4, 05 §3).
//!
//! ```text
//! config, options, quote        address, login and settings; names and literals
//! reach, wire, row              connections; bytes in any encoding
//! raw ─► lock_watch ─► session ─► maintenance, call, standby
//! ```
//!
//! Users may attach settings to databases and roles that would break or redirect our statements,
//! so every session starts with options that outrank such settings, see `options`. Every wait has
//! a deadline; the errors of a slow statement and of one that waits for a lock differ, and the
//! latter names the holder (`blocked`, `lock_watch`). No error shows SQL text, which may hold
//! password verifiers. Names come as bytes, whatever encoding they were made in (`wire`).

mod blocked;
mod blocker;
mod call;
mod cancel;
mod config;
pub(crate) mod dump;
mod error;
mod footprint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod lock_watch;
mod maintenance;
mod options;
pub(crate) mod quote;
mod raw;
mod reach;
mod row;
mod session;
pub(crate) mod standby;
mod wire;

pub use blocker::{Activity, Blocker};
pub use call::{CallError, CallLimits};
pub use config::{APPLY_CONFIG, MIGRATIONS, POST_APPLY_CONFIG, SessionConfig, session_config};
pub use error::{PgError, SessionError};
pub use footprint::visited_within;
pub use lock_watch::LockWatch;
pub use maintenance::MaintenanceSession;
pub use raw::{BatchError, SessionDeadlines};
pub(crate) use row::TypedRow;
pub use row::{Row, is_foreign, shown};
pub use session::Session;
