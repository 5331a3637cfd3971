//! What a spec does in the databases: roles, databases, extensions, subscriptions, migrations,
//! and the sessions that do it.

mod any_name;
mod apply_blocked;
mod apply_blocked_at_start;
mod apply_deadline;
mod apply_hardened;
mod apply_in_turns;
mod apply_report;
mod beside_users;
mod concurrency;
mod databases;
mod deleted_roles;
mod extension_update;
mod kept;
mod lakebase;
mod migrations;
mod names;
mod old_admin;
mod refused_deletions;
mod roles;
mod session_calls;
mod sessions;
mod sessions_seen;
mod standby;
mod start;
mod subscriptions;
mod subscriptions_killed;
mod system_objects;
mod unopened;
mod unseen;
