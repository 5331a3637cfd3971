//! The other commands of the program: `check`, `dev`, and the client.

mod check_document;
mod check_plan;
mod check_plan_applied;
mod check_probe;
mod check_settings;
mod check_show_conf;
mod client_commands;
mod client_library;
mod client_watch;
mod completions;
mod dev_data;
mod dev_start;
mod dev_storage_only;
mod named_files;
mod token;
mod variables;
mod version;
