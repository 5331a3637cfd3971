//! Programs and helpers beside Postgres that the spec says something about (04 §8 to §11), and what
//! the compute does for Postgres while it runs (07).
//!
//! | module | what it is |
//! |---|---|
//! | [`side`] | when each of them has its turn in a start or a reconfiguration |
//! | [`pgbouncer`], [`ini`] | settings into its INI file, `RELOAD` |
//! | [`local_proxy`] | its JSON file, SIGHUP |
//! | [`rsyslog`], [`rsyslog_conf`] | audit forwarding and log export |
//! | [`audit_gc`], [`imfile_state`] | old audit files, and how far they were read |
//! | [`vm_helpers`] | swap and disk quota |
//! | [`extensions`] | extensions that are fetched when they are needed |
//! | [`lfc`] | prewarm and offload of the local file cache |
//! | [`promotion`] | from a replica to a primary |
//! | [`monitor`] | whether users are active, and whether Postgres answers |
//! | [`installed_extensions`] | statistics on extensions |
//! | [`replace`], [`newest`] | what they share: files in one step, one job at a time |
//!
//! None of the programs is a child of ours; what is shared are files, a pid file, a console.

pub mod audit_gc;
pub mod extensions;
pub mod imfile_state;
pub mod ini;
pub mod installed_extensions;
pub mod lfc;
pub mod local_proxy;
pub mod monitor;
pub mod newest;
pub mod pgbouncer;
pub mod promotion;
pub mod replace;
pub mod rsyslog;
pub mod rsyslog_conf;
pub mod side;
pub mod vm_helpers;

#[cfg(test)]
mod stalling;

pub use side::SideDaemons;
