//! Suggestions for a flag that does not exist. The parser of the command line finds typing mistakes
//! (`--pgdta`) itself; this finds flags that have a word in common (`--pgport`).

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use super::variables;
use crate::env::{OfProcess, wants_json};
use crate::telemetry::form::{Form, LogFormat};

/// Exit code of a usage error.
const USAGE_ERROR: u8 = 2;

/// Characters that two names must have in common, next to each other.
const IN_COMMON: usize = 4;

impl Cli {
    /// The command line of this process. A usage error ends the process with exit code 2: at once,
    /// or after a record in the log if that is JSON.
    ///
    /// # Errors
    /// The exit code, after the usage error is said.
    pub fn of_process() -> Result<Self, ExitCode> {
        let line: Vec<_> = std::env::args_os().collect();
        let matches = variables::matches(Self::command, &line, &OfProcess);
        let cli = matches.and_then(|matches| Self::of(&matches));
        cli.or_else(|error| {
            let error = with_suggestions(error);
            if error.use_stderr() && wants_json(&OfProcess) {
                let text = error.to_string();
                let line = Form::plain(LogFormat::Json, None).failure(text.trim_end());
                // The exit code says it too.
                let _ = std::io::stderr().write_all(&line);
                return Err(ExitCode::from(USAGE_ERROR));
            }
            error.exit()
        })
    }
}

fn with_suggestions(mut error: clap::Error) -> clap::Error {
    let suggested = error.get(ContextKind::SuggestedArg).is_some();
    if error.kind() != ErrorKind::UnknownArgument || suggested {
        return error;
    }
    let similar = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(unknown)) => similar(unknown),
        _ => Vec::new(),
    };
    if !similar.is_empty() {
        error.insert(ContextKind::SuggestedArg, ContextValue::Strings(similar));
    }
    error
}

/// The flags of a compute that have a part of their name in common with the unknown one.
fn similar(unknown: &str) -> Vec<String> {
    let Some(unknown) = unknown.strip_prefix("--") else { return Vec::new() };
    let unknown: Vec<char> = unknown.split('=').next().unwrap_or_default().chars().collect();
    let parts: Vec<String> = unknown.windows(IN_COMMON).map(|part| part.iter().collect()).collect();
    let command = Cli::command();
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let names = flags.filter_map(clap::Arg::get_long);
    let alike = names.filter(|name| parts.iter().any(|part| name.contains(part.as_str())));
    alike.map(|name| format!("--{name}")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn said(flag: &str) -> String {
        let error = Cli::try_parse_from(["compute_ctl", flag, "1"]).unwrap_err();
        with_suggestions(error).to_string()
    }

    #[test]
    fn a_word_in_common_is_a_suggestion() {
        let text = said("--pgport");
        assert!(text.contains("unexpected argument '--pgport'"), "{text}");
        for flag in ["--external-http-port", "--internal-http-port"] {
            assert!(text.contains(flag), "{text}");
        }
        assert!(said("--connection-string=planted").contains("--connstr"));
        assert!(said("--pgdta").contains("a similar argument exists: '--pgdata'"));
        assert!(!said("--xyz").contains("tip:"));
    }
}
