//! Flags as environment variables: `COMPUTE_CTL_PGDATA` is `--pgdata` (01 §2).
//!
//! The names follow from the flags, so that no flag lacks one. A flag wins over its variable, and
//! over the variable of a flag that it conflicts with: clap alone would refuse `--config` while
//! `COMPUTE_CTL_SPEC` is set, although the command line says what is meant. So the line is parsed
//! twice, at first to learn which flags it has.
//!
//! Only the variables of the command that runs are read. An empty one counts as unset, as
//! everywhere in this program.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, PossibleValuesParser, StyledStr, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};

use crate::env::{PREFIX, Variables, is_own};

/// Variables with another name than that of their flag: the flag, and the command if only one has it.
const NAMES: [(&str, Option<&str>, &str); 5] = [
    ("pgbin", None, "POSTGRES_PATH"),
    // These have another default than the commands that ask the external server.
    ("url", Some("refresh"), INTERNAL_URL),
    ("url", Some("logs"), INTERNAL_URL),
    ("url", Some("log-level"), INTERNAL_URL),
    // A duration; that of `wait` is a status.
    ("for", Some("log-level"), "COMPUTE_CTL_LOG_LEVEL_FOR"),
];

const INTERNAL_URL: &str = "COMPUTE_CTL_INTERNAL_URL";

const RULE: &str = "Each flag can also be given as a variable of the environment, as \
    COMPUTE_CTL_RUN_AS for --run-as; the command line wins.";

/// A command with the names of the variables of its flags and of those of the commands in it. Their
/// values have no effect on help and documents.
pub(super) fn named(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let has_flags = command.get_arguments().any(|arg| arg.get_long().is_some());
    let help = match command.get_after_help() {
        Some(text) => format!("{RULE}\n\n{text}"),
        None => RULE.to_owned(),
    };
    let command = command.mut_args(|arg| with_variable(arg, &name)).mut_subcommands(named);
    if has_flags { command.after_help(help) } else { command }
}

fn with_variable(arg: Arg, command: &str) -> Arg {
    let Some(variable) = variable(command, &arg) else { return arg };
    // The others follow from the rule, and would make the help long.
    let regular = !NAMES.iter().any(|(.., name)| *name == variable);
    arg.env(variable).hide_env_values(true).hide_env(regular)
}

/// Name of the variable of a flag; none for what is not a flag, and for `--help` and `--version`.
fn variable(command: &str, arg: &Arg) -> Option<String> {
    let flag = arg.get_long().filter(|flag| !["help", "version"].contains(flag))?;
    let other = NAMES
        .iter()
        .find(|(name, only, _)| *name == flag && only.is_none_or(|only| only == command));
    Some(match other {
        Some((.., name)) => (*name).to_owned(),
        None => format!("{PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_")),
    })
}

/// Parses a command line and the variables of the command that it names. `command` makes the
/// definition.
pub(super) fn matches(
    command: impl Fn() -> Command,
    line: &[OsString],
    variables: &impl Variables,
) -> Result<ArgMatches, clap::Error> {
    let for_help = |error: &clap::Error| !error.use_stderr();
    let with_help = || named(command()).try_get_matches_from(line);
    let of_a_flag = |name: &OsStr| is_own(name) || NAMES.iter().any(|(.., it)| name == *it);
    if !variables.has_any(of_a_flag) {
        // Most starts have none, and parsing is a tenth of the instructions of a start.
        return command().try_get_matches_from(line).or_else(|error| match for_help(&error) {
            true => with_help(),
            false => Err(error),
        });
    }
    let Ok(given) = command().ignore_errors(true).try_get_matches_from(line) else {
        return with_help();
    };
    let mut used = Vec::new();
    let command = filled(command(), &given, variables, &mut used);
    let result = command.try_get_matches_from(line);
    result.map_err(|error| naming_variables(error, &used))
}

/// The matches of the command that runs.
pub(super) fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

/// A variable that has an effect.
struct Used {
    flag: String,
    variable: String,
    value: OsString,
}

fn filled(
    command: Command,
    given: &ArgMatches,
    variables: &impl Variables,
    used: &mut Vec<Used>,
) -> Command {
    if let Some((name, inner)) = given.subcommand() {
        // The built-in command `help` is not there yet.
        return match command.find_subcommand(name) {
            Some(_) => command.mut_subcommand(name, |it| filled(it, inner, variables, used)),
            None => command,
        };
    }
    let name = command.get_name().to_owned();
    let settled = settled(&command, given);
    command.mut_args(|arg| {
        let Some(variable) = variable(&name, &arg) else { return arg };
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let value = variables.get(&variable).filter(|value| {
            !settled.contains(arg.get_id())
                && !value.is_empty()
                && !is_of_kubernetes(&variable, value)
                // As a value, it would count as given, with all that a flag needs or excludes.
                && !(is_switch && (value == "false" || value == "0"))
        });
        let Some(value) = value else { return arg };
        let flag = format!("--{}", arg.get_long().unwrap_or_default());
        used.push(Used { flag, variable: variable.clone(), value });
        let arg = if is_switch { arg.value_parser(yes_or_no()) } else { arg };
        arg.env(variable).hide_env_values(true)
    })
}

/// The flags that the line has, and those that it excludes.
fn settled(command: &Command, given: &ArgMatches) -> HashSet<Id> {
    let on_line =
        |arg: &&Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let given: Vec<&Arg> = command.get_arguments().filter(on_line).collect();
    let conflicts = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
    };
    let exclusive = command.get_groups().filter(|group| !(*group).clone().is_multiple());
    let groups: Vec<HashSet<&Id>> = exclusive.map(|group| group.get_args().collect()).collect();
    let settles = |one: &Arg, other: &Arg| {
        let together =
            |group: &HashSet<&Id>| group.contains(one.get_id()) && group.contains(other.get_id());
        one.get_id() == other.get_id()
            || conflicts(one, other)
            || conflicts(other, one)
            || groups.iter().any(together)
    };
    let args = command.get_arguments();
    let settled = args.filter(|arg| given.iter().any(|given| settles(given, arg)));
    settled.map(|arg| arg.get_id().clone()).collect()
}

/// Kubernetes gives each container `NAME_PORT=tcp://10.0.0.1:80` for each service, so a service with
/// the name `compute-ctl` sets the variable of `--port`.
fn is_of_kubernetes(variable: &str, value: &OsStr) -> bool {
    let is_address =
        |text: &str| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    variable.ends_with("_PORT") && value.to_str().is_some_and(is_address)
}

/// A switch in a variable.
pub(super) fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    let values = [PossibleValue::new("true").alias("1"), PossibleValue::new("false").alias("0")];
    PossibleValuesParser::new(values).map(|text| text == "true" || text == "1")
}

/// Says which variables an error is about: the error itself only has the names of flags.
fn naming_variables(mut error: clap::Error, used: &[Used]) -> clap::Error {
    let mut named = Vec::new();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        match error.get(kind) {
            Some(ContextValue::String(arg)) => named.push(arg.clone()),
            Some(ContextValue::Strings(args)) => named.extend(args.iter().cloned()),
            _ => {}
        }
    }
    // `--flag <VALUE>`, or `--flag[=<VALUE>]`.
    let is_named =
        |flag: &str| named.iter().any(|arg| arg.split([' ', '=', '[']).next() == Some(flag));
    let not_text = error.kind() == ErrorKind::InvalidUtf8;
    let tips: Vec<StyledStr> = used
        .iter()
        .filter(|it| is_named(&it.flag) || (not_text && it.value.to_str().is_none()))
        .map(|it| {
            let Used { flag, variable, .. } = it;
            format!("the environment gives {flag} by the variable {variable}").into()
        })
        .collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn an_environment_without_flags_changes_nothing() {
        let command = crate::cli::Cli::command;
        for line in [
            "compute_ctl -D /d -C u -c /c -i c1",
            "compute_ctl --help",
            "compute_ctl wait --help",
            "compute_ctl help wait",
            "compute_ctl -V",
            "compute_ctl --version",
            "compute_ctl token",
            "compute_ctl -D /d --unknown",
            "compute_ctl",
        ] {
            let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let of = |variables: [(&str, &str); 1]| {
                matches(command, &line, &variables).map_err(|error| error.to_string())
            };
            // The empty value has no effect, but takes the other way.
            assert_eq!(of([("HOME", "/")]), of([("COMPUTE_CTL_PGDATA", "")]), "{line:?}");
        }
    }

    #[test]
    fn addresses_of_services_are_no_ports() {
        for (name, value, is) in [
            ("COMPUTE_CTL_PORT", "tcp://10.0.0.1:3080", true),
            ("COMPUTE_CTL_HTTP_PORT", "udp://[fd00::1]:3080", true),
            ("COMPUTE_CTL_PORT", "3080", false),
            ("COMPUTE_CTL_URL", "tcp://10.0.0.1:3080", false),
        ] {
            assert_eq!(is_of_kubernetes(name, value.as_ref()), is, "{name}={value}");
        }
    }
}
