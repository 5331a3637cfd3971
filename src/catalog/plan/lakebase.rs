//! Operations that Lakebase mode adds to an apply (05 §22): roles of the platform, the extension
//! `databricks_auth`, privileges of the monitor's role. All names are qualified, so that the
//! operations work on a running compute as well.

use super::super::snapshot::StoredPassword;
use super::super::trust::{Use, trusted_table};
use super::{Action, CatalogStep, ObjectKind, Operation, Planner};
use crate::sql::quote::{dollar_quoted, identifier, literal};

const MONITOR: &str = "databricks_monitor";
/// `statement_timeout` of the monitor's role; `sql/lakebase.sql` has the same value.
const MONITOR_TIMEOUT: &str = "60s";

/// Roles of the platform, with their attributes besides LOGIN.
const ROLES: [(&str, &str); 3] = [
    (MONITOR, " IN ROLE pg_monitor"),
    ("databricks_control_plane", " SUPERUSER"),
    ("databricks_gateway", ""),
];

/// Privileges of the monitor's role, in order, with their objects; `sql/lakebase.sql` looks for
/// the same names. The last two belong to the extension `neon`.
const GRANTS: [(ObjectKind, &str, &str); 5] = [
    (ObjectKind::Schema, "neon", "USAGE ON SCHEMA neon"),
    (
        ObjectKind::Table,
        "public.health_check",
        "SELECT, INSERT, UPDATE ON TABLE public.health_check",
    ),
    (ObjectKind::Function, "pg_ls_dir(text)", "EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text)"),
    (ObjectKind::Table, "neon.neon_perf_counters", "SELECT ON TABLE neon.neon_perf_counters"),
    (
        ObjectKind::Function,
        "neon.get_perf_counters()",
        "EXECUTE ON FUNCTION neon.get_perf_counters()",
    ),
];

/// A function that writes, to check whether the compute can write.
const WRITE_CHECK: &str = "public.health_check_write_succeeds()";
const WRITE_CHECK_BODY: &str = include_str!("../sql/health_check_write_succeeds.sql");

/// The body of [`WRITE_CHECK`]. Superusers may call it, so it checks the owner of its table first.
pub(super) fn write_check_body() -> String {
    let trust = trusted_table("public", "health_check", Use::Write);
    WRITE_CHECK_BODY.replace("@TRUST@", &trust)
}

impl Planner<'_> {
    pub(super) const fn is_lakebase(&self) -> bool {
        self.state.lakebase.is_some()
    }

    /// Operations after phase 2.
    pub(super) fn lakebase_roles(&mut self) -> Vec<Operation> {
        let Some(lakebase) = self.state.lakebase.clone() else { return Vec::new() };
        let mut operations = Vec::new();
        for (name, attributes) in ROLES {
            if self.state.roles.contains_key(name) {
                self.unchanged(ObjectKind::Role, name);
                continue;
            }
            self.state.roles.insert(name.to_owned(), StoredPassword::Known(None));
            let sql = format!("CREATE ROLE {name} LOGIN PASSWORD NULL{attributes}");
            let (phase, role) = (CatalogStep::LakebaseRoles, (ObjectKind::Role, name));
            operations.push(self.op(phase, Action::Create, role, "not there", sql));
        }
        let Some(timeout) = &lakebase.reader_timeout else { return operations };
        for name in &lakebase.readers {
            let body = format!(
                "BEGIN ALTER ROLE {} SET statement_timeout = {}; \
                 RAISE LOG 'statement_timeout of role % is % from now on', {}, {}; END",
                identifier(name),
                literal(timeout),
                literal(name),
                literal(timeout)
            );
            let (phase, role) = (CatalogStep::ReaderTimeouts, (ObjectKind::Role, name.as_str()));
            let sql = format!("DO {}", dollar_quoted(&body).literal);
            let reason = "databricks.reader_statement_timeout is set";
            operations.push(self.op(phase, Action::Set, role, reason, sql));
        }
        operations
    }

    /// Operations after phase 11. The extension is created anew each time, whatever its version.
    pub(super) fn databricks_auth(&mut self) -> Vec<Operation> {
        const AUTH: &str = "databricks_auth";
        let Some(lakebase) = &self.state.lakebase else { return Vec::new() };
        if !lakebase.has_auth {
            let note = "this server has no `databricks_auth` extension; what needs it is skipped";
            self.notes.push(note.to_owned());
            return Vec::new();
        }
        let (phase, extension) = (CatalogStep::DatabricksAuth, (ObjectKind::Extension, AUTH));
        let view = (ObjectKind::Table, "public.databricks_auth_metrics");
        let reason = "each apply creates it anew";
        [
            (Action::Drop, extension, "DROP EXTENSION IF EXISTS databricks_auth"),
            (Action::Create, extension, "CREATE EXTENSION databricks_auth WITH SCHEMA public"),
            (Action::Grant, view, "GRANT SELECT ON public.databricks_auth_metrics TO pg_monitor"),
        ]
        .map(|(action, object, sql)| self.op(phase, action, object, reason, sql.to_owned()))
        .into()
    }

    /// Operations after phase 13.
    pub(super) fn monitor_privileges(&mut self) -> Vec<Operation> {
        let Some(lakebase) = &self.state.lakebase else { return Vec::new() };
        let phase = CatalogStep::MonitorPrivileges;
        let has_neon =
            self.state.neon_default_version.is_some() && self.state.neon_schema_of_others.is_none();
        let of_extension = |name: &str| name.starts_with("neon.");
        let mut operations: Vec<Operation> = GRANTS
            .into_iter()
            .filter(|(_, name, _)| !lakebase.held.contains(*name))
            .filter(|(_, name, _)| has_neon || !of_extension(name))
            .map(|(kind, name, what)| {
                let sql = format!("GRANT {what} TO {MONITOR}");
                let reason = format!("{MONITOR} does not hold them");
                self.op(phase, Action::Grant, (kind, name), reason, sql)
            })
            .collect();
        if !lakebase.held.contains("statement_timeout") {
            let sql = format!("ALTER ROLE {MONITOR} SET statement_timeout = '{MONITOR_TIMEOUT}'");
            let (role, reason) = ((ObjectKind::Role, MONITOR), "it is not set");
            operations.push(self.op(phase, Action::Set, role, reason, sql));
        }
        if let Some(owner) = &lakebase.write_check_of_others {
            let remark = format!(
                "function {WRITE_CHECK} is left as it is: it belongs to role {owner:?}, which is not a \
                 superuser; drop it, and the next apply makes ours"
            );
            self.remarks.push(remark);
            return operations;
        }
        let body = write_check_body();
        if lakebase.write_check.as_deref() != Some(&*body) {
            let sql = format!(
                "CREATE OR REPLACE FUNCTION {WRITE_CHECK} RETURNS pg_catalog.int4 LANGUAGE plpgsql \
                 AS $body${body}$body$"
            );
            let (function, reason) = ((ObjectKind::Function, WRITE_CHECK), "missing or different");
            operations.push(self.op(phase, Action::Create, function, reason, sql));
        }
        operations
    }
}
