//! The audit block (04 §3.3). It follows the settings list, so that the list cannot disable
//! auditing.

use super::read::{preload_base_text, preload_setting, split_libraries};
use super::{ConfFile, Origin};
use crate::spec::ComputeSpec;
use crate::spec::wire::AuditLogLevel;

const PGAUDIT: &str = "pgaudit";
/// Library that writes the audit records into separate files.
const TO_FILE: &str = "pgauditlogtofile";

/// Appends the block for the audit level of the spec.
pub(super) fn push_audit(conf: &mut ConfFile, spec: &ComputeSpec) {
    let (log_parameter, log, libraries): (_, _, &[&str]) = match spec.audit_log_level {
        AuditLogLevel::Disabled => return,
        AuditLogLevel::Base => (None, "ddl,role", &[PGAUDIT]),
        AuditLogLevel::Extended => (Some("off"), "all, -misc", &[PGAUDIT, TO_FILE]),
        AuditLogLevel::Full => (Some("on"), "all", &[PGAUDIT, TO_FILE]),
    };
    let origin = Origin::Appended;
    if let Some(value) = log_parameter {
        conf.raw(origin, "pgaudit.log_parameter", value);
    }
    conf.quoted(origin, "pgaudit.log", log);
    conf.raw(origin, "pgaudit.log_catalog", "off");
    if log_parameter.is_some() {
        // In minutes.
        conf.raw(origin, "pgaudit.log_rotation_age", "5");
    }
    conf.quoted(origin, "shared_preload_libraries", with_libraries(spec, libraries));
}

/// The library list of the spec, completed by those missing in it. Whole items are compared: a list
/// with only `pgauditlogtofile` lacks `pgaudit` (02 W8, 04 W12).
fn with_libraries(spec: &ComputeSpec, wanted: &[&str]) -> String {
    let mut libraries = match preload_setting(spec) {
        Some(text) if !text.trim().is_empty() => vec![text.to_owned()],
        Some(_) => Vec::new(),
        None => {
            let mut items = split_libraries(&preload_base_text(spec).unwrap_or_default());
            if !items.iter().any(|item| item == "neon") {
                items.insert(0, "neon".to_owned());
            }
            items
        }
    };
    let present = split_libraries(&libraries.join(","));
    let missing = wanted.iter().filter(|library| !present.iter().any(|item| item == *library));
    libraries.extend(missing.map(|library| (*library).to_owned()));
    libraries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn block(level: &str, base_text: Option<&str>, libraries: Option<&str>) -> String {
        let settings = libraries.map_or(Value::Null, |value| {
            json!([{"name": "shared_preload_libraries", "value": value, "vartype": "string"}])
        });
        let spec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "audit_log_level": level,
            "cluster": {"roles": [], "databases": [],
                "postgresql_conf": base_text, "settings": settings}
        }));
        let mut conf = ConfFile::default();
        push_audit(&mut conf, &spec.unwrap());
        conf.render().unwrap().expose().clone()
    }

    #[test]
    fn each_level() {
        assert_eq!(block("Disabled", None, Some("neon")), "");
        let base = "pgaudit.log='ddl,role'\npgaudit.log_catalog=off\n\
                    shared_preload_libraries='neon,pgaudit'\n";
        let extended = "pgaudit.log_parameter=off\npgaudit.log='all, -misc'\n\
                        pgaudit.log_catalog=off\npgaudit.log_rotation_age=5\n\
                        shared_preload_libraries='neon,pgaudit,pgauditlogtofile'\n";
        let full = extended.replace("parameter=off", "parameter=on").replace("all, -misc", "all");
        for (levels, expected) in [
            (["Log", "Base"], base),
            (["Hipaa", "Extended"], extended),
            (["Full", "Full"], full.as_str()),
        ] {
            for level in levels {
                assert_eq!(block(level, None, None), expected);
                assert_eq!(block(level, None, Some("neon")), expected);
            }
        }
    }

    #[test]
    fn libraries_are_added_where_they_are_missing() {
        for (level, base_text, list, expected) in [
            ("Base", None, Some("neon,pgaudit"), "neon,pgaudit"),
            ("Full", None, Some("neon,pgaudit"), "neon,pgaudit,pgauditlogtofile"),
            ("Full", None, Some("neon,pgauditlogtofile"), "neon,pgauditlogtofile,pgaudit"),
            ("Base", None, Some("neon, x"), "neon, x,pgaudit"),
            ("Base", None, Some(""), "pgaudit"),
            ("Base", None, Some("o'x"), "o''x,pgaudit"),
            ("Base", Some("shared_preload_libraries='neon,y'"), None, "neon,y,pgaudit"),
            ("Base", Some("shared_preload_libraries=y"), None, "neon,y,pgaudit"),
            ("Base", Some("shared_preload_libraries=y"), Some("neon"), "neon,pgaudit"),
        ] {
            let line = format!("\nshared_preload_libraries='{expected}'\n");
            let block = block(level, base_text, list);
            assert!(block.ends_with(&line), "{block}");
        }
    }
}
