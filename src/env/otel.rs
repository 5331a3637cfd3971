//! The standard variables of OpenTelemetry (01 §2, §21).

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::secret::Secret;

/// Headers of each export; they may hold a credential.
pub const OTLP_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// The same, for traces only.
pub const OTLP_TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";

/// All that are read.
const NAMES: [&str; 24] = [
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    OTLP_HEADERS,
    OTLP_TRACES_HEADERS,
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_PROPAGATORS",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "TRACEPARENT",
    "TRACESTATE",
    // Not used; read so that the log can say so.
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
];

/// The variables that are set. An empty one counts as unset, as the standard says. All values are
/// secret: headers and addresses may hold a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Otel(BTreeMap<&'static str, Secret<String>>);

impl Otel {
    pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &&'static str| {
            let value = variable(name)?.to_string_lossy().into_owned();
            (!value.trim().is_empty()).then(|| (*name, Secret::new(value)))
        };
        Self(NAMES.iter().filter_map(set).collect())
    }

    /// The value of a variable, without blanks at its ends.
    ///
    /// The caller must not log it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.expose().trim())
    }

    /// The first of some variables that is set, and its value.
    pub(crate) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &str)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// These variables, for a command that exports traces only if an address is named.
    #[must_use]
    pub fn only_if_named(self) -> Self {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        if self.first(&names).is_some() { self } else { Self::off() }
    }

    /// `OTEL_SDK_DISABLED=true`, whatever is set.
    #[must_use]
    pub fn off() -> Self {
        Self(BTreeMap::from([("OTEL_SDK_DISABLED", Secret::new("true".to_owned()))]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otel(variables: &[(&str, &str)]) -> Otel {
        let value = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|it| it.1.into());
        Otel::read(value)
    }

    #[test]
    fn empty_is_unset_and_no_value_is_shown() {
        let otel = otel(&[
            (OTLP_HEADERS, "a=planted"),
            ("OTEL_SERVICE_NAME", " "),
            ("OTEL_TRACES_SAMPLER", " always_off\n"),
            ("OTEL_UNKNOWN", "x"),
        ]);
        assert_eq!(otel.get("OTEL_SERVICE_NAME"), None);
        assert_eq!(otel.get("OTEL_TRACES_SAMPLER"), Some("always_off"));
        assert_eq!(
            otel.first(&[OTLP_TRACES_HEADERS, OTLP_HEADERS]),
            Some((OTLP_HEADERS, "a=planted"))
        );
        assert!(!format!("{otel:?}").contains("planted"), "{otel:?}");
    }

    #[test]
    fn some_commands_need_an_address() {
        let named = otel(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h")]);
        assert_eq!(named.clone().only_if_named(), named);
        let unnamed = otel(&[("OTEL_SERVICE_NAME", "n")]).only_if_named();
        assert_eq!(unnamed.get("OTEL_SDK_DISABLED"), Some("true"));
    }
}
