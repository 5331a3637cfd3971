//! Programs beside Postgres: pgbouncer, local_proxy, rsyslog, the helpers of a VM.

mod audit_trail;
mod local_proxy;
mod local_proxy_certificate;
mod neighbours;
mod pgbouncer;
mod rsyslog;
mod vm_helpers;
