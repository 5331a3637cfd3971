//! Programs beside Postgres that the spec configures (04 §8 to §11).
//!
//! | module | purpose |
//! |---|---|
//! | [`sidecars`] | when each of them is configured in a start or a reconfiguration |
//! | [`pgbouncer`], [`ini`] | settings into its INI file, `RELOAD` |
//! | [`local_proxy`] | its JSON file, SIGHUP |
//! | [`rsyslog`], [`rsyslog_conf`] | audit forwarding and log export |
//! | [`audit_gc`], [`imfile_state`] | old audit files, and how far they were read |
//! | [`vm_helpers`] | swap and disk quota |
//! | [`pid_files`] | finds processes by their pid files |
//! | [`latest_job`] | background jobs, one at a time |
//!
//! The programs are not children of this process; they share files, a pid file, a console with it.

pub(crate) mod audit_gc;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod imfile_state;
pub(crate) mod ini;
pub(crate) mod latest_job;
pub(crate) mod local_proxy;
pub mod pgbouncer;
pub(crate) mod pid_files;
pub mod rsyslog;
pub mod rsyslog_conf;
#[expect(clippy::module_inception, reason = "the room is named after what it is about")]
pub mod sidecars;
pub(crate) mod vm_helpers;

pub use sidecars::Sidecars;
