//! Turns errors into text: one line for the log, several for `/status` and the terminal.

use std::error::Error;
use std::fmt::Write;

/// An error and its causes in one line, joined by colons. The outermost text alone ("error sending
/// request") often says nothing an operator can act on.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// An error with its whole chain of causes, in the form of the `error` member of `/status`
/// (02 §12.2): the message, an empty line, `Caused by:` and the causes. No backtraces (03 W16).
pub fn report(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let causes: Vec<_> = error.chain().skip(1).collect();
    let number = causes.len() > 1;
    for (n, cause) in causes.iter().enumerate() {
        if n == 0 {
            text.push_str("\n\nCaused by:");
        }
        // Writing to a string does not fail.
        let _ =
            if number { write!(text, "\n    {n}: {cause}") } else { write!(text, "\n    {cause}") };
    }
    text
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
}
