//! Findings of `compute_ctl check`, as text and as JSON.

use std::fmt::Display;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// A fact.
    Info,
    /// The compute starts, but perhaps not as its author expects.
    Warning,
    /// A compute could not use the document.
    Error,
}

/// One finding.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    severity: Severity,
    /// The member of the document, if the finding is about one.
    path: Option<String>,
    /// One sentence or several lines; it also names the member.
    message: String,
}

/// All findings, in order.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

/// The document of `--json`; its shape is described in `docs/reference/command-line.md`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    /// Whether a compute could use the file.
    usable: bool,
    findings: &'a [Finding],
}

impl Report {
    fn add(&mut self, severity: Severity, path: Option<&str>, message: impl Display) {
        let path = path.filter(|path| !path.is_empty()).map(str::to_owned);
        self.0.push(Finding { severity, path, message: message.to_string() });
    }

    /// A fact.
    pub(super) fn line(&mut self, message: impl Display) {
        self.add(Severity::Info, None, message);
    }

    /// Something to look at.
    pub(super) fn warning(&mut self, message: impl Display) {
        self.add(Severity::Warning, None, message);
    }

    /// Something to look at in a member.
    pub(super) fn warning_at(&mut self, path: &str, message: impl Display) {
        self.add(Severity::Warning, Some(path), message);
    }

    /// A reason why a compute could not use the document.
    pub(super) fn problem(&mut self, message: impl Display) {
        self.add(Severity::Error, None, message);
    }

    /// A reason in a member.
    pub(super) fn problem_at(&mut self, path: &str, message: impl Display) {
        self.add(Severity::Error, Some(path), message);
    }

    /// Whether a compute could use the document.
    pub(super) fn is_usable(&self) -> bool {
        self.0.iter().all(|finding| finding.severity != Severity::Error)
    }

    /// The texts for stdout and for stderr.
    pub(super) fn texts(&self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for Finding { severity, message, .. } in &self.0 {
            match severity {
                Severity::Info => stdout.push_str(&format!("{message}\n")),
                Severity::Warning => stdout.push_str(&format!("warning: {message}\n")),
                Severity::Error => stderr.push_str(&format!("Error: {message}\n")),
            }
        }
        (stdout, stderr)
    }

    /// One JSON document.
    pub(super) fn json(&self) -> Result<String, serde_json::Error> {
        let document = Document { usable: self.is_usable(), findings: &self.0 };
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms() {
        let mut report = Report::default();
        report.line("mode primary");
        report.warning_at("spec.x", "unknown member: spec.x");
        assert!(report.is_usable());
        report.problem("no");
        let (stdout, stderr) = report.texts();
        assert_eq!(stdout, "mode primary\nwarning: unknown member: spec.x\n");
        assert_eq!(stderr, "Error: no\n");
        let value: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let expected = json!({"usable": false, "findings": [
            {"severity": "info", "path": null, "message": "mode primary"},
            {"severity": "warning", "path": "spec.x", "message": "unknown member: spec.x"},
            {"severity": "error", "path": null, "message": "no"}
        ]});
        assert_eq!(value, expected);
    }
}
