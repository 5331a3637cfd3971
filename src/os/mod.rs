//! Direct access to the operating system: children and their reaping, signals, privileges, limits,
//! files replaced in one step.
//!
//! Invariant: every child process is started through [`children::Children`], so that the reaper of
//! a PID 1 never takes a status that a task waits for.

pub mod activation;
pub mod children;
pub(crate) mod code_memory;
pub(crate) mod denied;
pub mod heap_memory;
pub(crate) mod host_name;
pub(crate) mod journal;
pub(crate) mod kernel_timer;
pub mod limits;
pub(crate) mod named_file;
pub(crate) mod notify_socket;
pub(crate) mod opened;
pub(crate) mod pidfd;
pub mod privileges;
pub mod procs;
pub(crate) mod reaper;
pub(crate) mod replace_file;
pub mod secret_files;
pub mod signals;
pub(crate) mod usage;
