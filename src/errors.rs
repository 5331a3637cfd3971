//! Turns errors into text: one line for the log and the terminal, several for `/status`.
//!
//! **The rule:** the text of an error of ours is the whole sentence, with its causes, and none of them
//! is also its `source()`: `{error}` loses nothing, and a chain says nothing twice. A test of
//! `source_rules` checks it. Only errors of libraries and of `anyhow` have
//! causes beside their text; [`one_line`] and [`report`] are for those.

mod help;

use std::error::Error;
use std::fmt::Write;
use std::io;

pub(crate) use help::help;

/// The texts of an error and of its causes. Some libraries print a cause in their own text as well;
/// it is left out then.
fn texts(error: &dyn Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !texts.last().is_some_and(|before| before.ends_with(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts
}

/// An error and its causes in one line, joined by colons. The outermost text alone ("error sending
/// request") often says nothing an operator can act on.
pub fn one_line(error: &dyn Error) -> String {
    texts(error).join(": ")
}

/// An error of a library as one of the system, with its causes in its text.
pub(crate) fn as_io(error: impl Error) -> io::Error {
    io::Error::other(one_line(&error))
}

/// An error with its whole chain of causes, in the form of the `error` member of `/status`
/// (02 §12.2): the message, an empty line, `Caused by:` and the causes. No backtraces (03 W16).
pub fn report(error: &anyhow::Error) -> String {
    let mut texts = texts(error.as_ref()).into_iter();
    let mut report = texts.next().unwrap_or_default();
    let number = texts.len() > 1;
    for (n, cause) in texts.enumerate() {
        if n == 0 {
            report.push_str("\n\nCaused by:");
        }
        // Writing to a string does not fail.
        let _ = if number {
            write!(report, "\n    {n}: {cause}")
        } else {
            write!(report, "\n    {cause}")
        };
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let error = anyhow::anyhow!("refused").context("could not connect").context("no start");
        assert_eq!(one_line(error.as_ref()), "no start: could not connect: refused");
        assert_eq!(
            report(&error),
            "no start\n\nCaused by:\n    0: could not connect\n    1: refused"
        );
        let error = anyhow::anyhow!("refused").context("no start");
        assert_eq!(report(&error), "no start\n\nCaused by:\n    refused");
        assert_eq!(report(&anyhow::anyhow!("alone")), "alone");
    }

    #[test]
    fn a_cause_that_is_printed_already_is_left_out() {
        let refused = std::io::Error::other(axum::Error::new(std::io::Error::other("refused")));
        let error = anyhow::Error::new(refused).context("could not connect: refused");
        assert_eq!(one_line(error.as_ref()), "could not connect: refused");
        assert_eq!(
            report(&error.context("no start")),
            "no start\n\nCaused by:\n    could not connect: refused"
        );
    }
}
