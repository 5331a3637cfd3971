//! The two HTTP servers: permissions, answers, limits, metrics.

mod auth;
mod autoscaling_metrics;
mod budget;
mod dbs_and_roles;
mod extensions;
mod external_bind;
mod failpoints;
mod generated_clients;
mod grants;
mod https;
mod insights;
mod internal_bind;
mod liveness_probe;
mod load;
mod metrics_families;
mod page;
mod probes;
mod promtool;
mod schema;
mod schemathesis;
mod stalled;
mod writability;
