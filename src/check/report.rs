//! Findings of `compute_ctl check`.

use std::fmt::Display;

/// The findings as text, and the problems that keep a compute from using the document.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) text: String,
    pub(super) problems: Vec<String>,
}

impl Report {
    pub(super) fn line(&mut self, line: impl Display) {
        self.text.push_str(&format!("{line}\n"));
    }

    pub(super) fn problem(&mut self, problem: impl Display) {
        self.problems.push(problem.to_string());
    }
}
