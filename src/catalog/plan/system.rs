//! Objects of the system database: schema and extension `neon`, statistics, availability check,
//! audit (05 §7.8, §7.10 to §7.12, §7.15).

use super::super::trust::close_triggers;
use super::{Action, CatalogStep, ObjectKind, Operation, Planner};
use crate::spec::wire::AuditLogLevel;
use crate::sql::quote::identifier;

const NEON: &str = "neon";
/// Creates the table with its row in one statement, which never writes to a table of a tenant.
const CREATE_HEALTH_CHECK: &str = include_str!("../sql/create_health_check.sql");

impl Planner<'_> {
    /// Phases 8, 10, 11 and 12. They do not depend on other databases.
    pub(super) fn system_objects(&mut self) -> Vec<Operation> {
        let mut operations = self.neon_schema();
        operations.extend(self.statement_statistics());
        operations.extend(self.neon_extension());
        operations.extend(self.databricks_auth());
        operations.extend(self.availability_check());
        operations
    }

    /// Phase 8.
    pub(super) fn neon_schema(&mut self) -> Vec<Operation> {
        if let Some(owner) = &self.state.neon_schema_of_others {
            self.remarks.push(format!(
                "schema \"neon\" of database {:?} is not used, and the extension neon is left as it \
                 is: the schema belongs to role {owner:?}, which is not a superuser; rename or drop it",
                self.system
            ));
            return Vec::new();
        }
        if std::mem::replace(&mut self.state.has_neon_schema, true) {
            return Vec::new();
        }
        let sql = "CREATE SCHEMA IF NOT EXISTS neon".to_owned();
        let schema = (ObjectKind::Schema, NEON);
        vec![self.op(CatalogStep::NeonSchema, Action::Create, schema, "not there", sql)]
    }

    /// Phase 10. The setting must be in the list of settings; any text that contains the name
    /// counts.
    fn statement_statistics(&self) -> Vec<Operation> {
        let libraries = self.wanted.spec.setting("shared_preload_libraries").unwrap_or_default();
        let wanted = libraries.contains("pg_stat_statements");
        if !wanted {
            return Vec::new();
        }
        let reason = "its library is preloaded";
        self.extension(CatalogStep::StatementStatistics, "pg_stat_statements", reason)
    }

    /// Creates an extension in `public`. An existing one stays as it is.
    fn extension(&self, phase: CatalogStep, name: &str, reason: &str) -> Vec<Operation> {
        if self.state.extensions.contains_key(name) {
            return Vec::new();
        }
        let sql = format!("CREATE EXTENSION IF NOT EXISTS {name} WITH SCHEMA public");
        let create = self.op(phase, Action::Create, (ObjectKind::Extension, name), reason, sql);
        vec![create, self.closed_to_triggers(phase, name)]
    }

    /// Default privileges apply to the objects that the script has just created.
    pub(super) fn closed_to_triggers(&self, phase: CatalogStep, name: &str) -> Operation {
        let (extension, reason) = ((ObjectKind::Extension, name), "triggers of tenants stay out");
        self.op(phase, Action::Protect, extension, reason, close_triggers(name))
    }

    /// Phase 11. Skipped where the server does not offer the extension.
    fn neon_extension(&mut self) -> Vec<Operation> {
        let Some(default) = self.state.neon_default_version.clone() else {
            self.notes
                .push("this server has no `neon` extension; what needs it is skipped".to_owned());
            return Vec::new();
        };
        if self.state.neon_schema_of_others.is_some() {
            return Vec::new();
        }
        let op = |action, reason: &str, sql: &str| {
            let object = (ObjectKind::Extension, NEON);
            self.op(CatalogStep::NeonExtension, action, object, reason, sql.to_owned())
        };
        let Some(neon) = self.state.extensions.get(NEON) else {
            let sql = "CREATE EXTENSION IF NOT EXISTS neon WITH SCHEMA neon";
            return vec![op(Action::Create, "not there", sql)];
        };
        let mut operations = Vec::new();
        if !neon.relocatable {
            let sql = "UPDATE pg_catalog.pg_extension SET extrelocatable = true \
                       WHERE extname OPERATOR(pg_catalog.=) 'neon' AND NOT extrelocatable";
            operations.push(op(Action::MakeRelocatable, "an old installation", sql));
        }
        if neon.schema != NEON {
            let reason = format!("it is in schema {:?}", neon.schema);
            operations.push(op(Action::Move, &reason, "ALTER EXTENSION neon SET SCHEMA neon"));
        }
        if neon.version != default {
            let reason = format!("it is at {}, the default version is {default}", neon.version);
            operations.push(op(Action::Update, &reason, "ALTER EXTENSION neon UPDATE"));
        }
        operations
    }

    /// Phase 12.
    fn availability_check(&self) -> Vec<Operation> {
        if self.state.has_health_check {
            return Vec::new();
        }
        let (phase, table) =
            (CatalogStep::AvailabilityCheck, (ObjectKind::Table, "public.health_check"));
        let create =
            CREATE_HEALTH_CHECK.replace("@PRIVILEGED@", &identifier(self.wanted.privileged_role));
        vec![self.op(phase, Action::Create, table, "not there", create)]
    }

    /// Phases 15 to 17, last, so that this apply itself is audited.
    pub(super) fn audit(&self) -> Vec<Operation> {
        let level = self.wanted.spec.audit_log_level;
        let reason = format!("audit_log_level is {level:?}");
        let to_file = match level {
            AuditLogLevel::Disabled => return Vec::new(),
            AuditLogLevel::Base => false,
            AuditLogLevel::Extended | AuditLogLevel::Full => true,
        };
        let mut operations = Vec::new();
        operations.extend(self.extension(CatalogStep::Audit, "pgaudit", &reason));
        if to_file {
            operations.extend(self.extension(CatalogStep::AuditFile, "pgauditlogtofile", &reason));
        }
        if !self.state.audit_silenced {
            // The name of the database is fixed, whatever the connection URL says.
            let (database, sql) = (
                (ObjectKind::Database, "postgres"),
                "ALTER DATABASE postgres SET pgaudit.log = 'none'".to_owned(),
            );
            operations.push(self.op(CatalogStep::SilenceAudit, Action::Set, database, reason, sql));
        }
        operations
    }
}
