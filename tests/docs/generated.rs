//! Parts of pages that are generated from the program, and pages that must be complete lists.
//!
//! A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. The tests compare it
//! with what it should be. `UPDATE_DOCS=1 cargo test --locked --test docs` writes it instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use compute_ctl::cli;
use compute_ctl::state::{ComputeStatus, Event, TerminateMode, transition};
use serde_json::Value;

/// A file of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares the generated parts of a page with `parts`, name to text, or writes them.
pub(crate) fn check(page: &str, parts: &[(String, String)]) {
    let old = read(page);
    let mut new = String::new();
    let mut rest = old.as_str();
    let mut seen = Vec::new();
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").expect("the end of a marker");
        let (_, after) = after.split_once("<!-- end -->").expect("<!-- end -->");
        let Some((_, text)) = parts.iter().find(|(part, _)| part == name) else {
            panic!("{page} has a generated part {name:?} that nothing generates: remove it");
        };
        write!(new, "{before}<!-- generated: {name} -->\n{text}<!-- end -->").unwrap();
        seen.push(name);
        rest = after;
    }
    new.push_str(rest);
    for (name, _) in parts {
        assert!(
            seen.contains(&name.as_str()),
            "{page} lacks the lines `<!-- generated: {name} -->` and `<!-- end -->`"
        );
    }
    if new == old {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(page), new).unwrap();
    } else {
        panic!("{page} is not up to date: UPDATE_DOCS=1 cargo test --locked --test docs writes it");
    }
}

/// Text for a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[test]
fn command_line() {
    let mut parts = Vec::new();
    for_each_command("compute_ctl", &built(), &mut |name, command| {
        // A group of commands has no flags of its own.
        if name == "compute_ctl" || !command.has_subcommands() {
            parts.push((name.to_owned(), arguments(command)));
        }
    });
    check("docs/reference/command-line.md", &parts);
}

fn built() -> Command {
    let mut command = cli::command();
    command.build();
    command
}

/// The command and those in it, with their whole names.
fn for_each_command(name: &str, command: &Command, each: &mut impl FnMut(&str, &Command)) {
    each(name, command);
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        for_each_command(&format!("{name} {}", inner.get_name()), inner, each);
    }
}

/// A table of the flags of a command.
fn arguments(command: &Command) -> String {
    let mut text = String::new();
    if let Some(about) = command.get_about() {
        writeln!(text, "{}.\n", about.to_string().trim_end_matches('.')).unwrap();
    }
    text.push_str("| flag | default | environment | meaning |\n|---|---|---|---|\n");
    for argument in command.get_arguments() {
        if ["help", "version"].contains(&argument.get_id().as_str()) {
            continue;
        }
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let environment = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            cell(&names(argument)),
            cell(&default(argument)),
            environment.unwrap_or_default(),
            cell(&help)
        )
        .unwrap();
    }
    text
}

fn names(argument: &Arg) -> String {
    let mut names = Vec::new();
    if let Some(short) = argument.get_short() {
        names.push(format!("`-{short}`"));
    }
    let Some(long) = argument.get_long() else {
        let value = argument.get_value_names().and_then(<[_]>::first);
        return format!("`{}`", value.map(ToString::to_string).unwrap_or_default());
    };
    let mut long = format!("--{long}");
    if argument.get_action().takes_values() {
        let value = argument.get_value_names().unwrap_or_default();
        let value = value.first().map(ToString::to_string).unwrap_or_default();
        write!(long, " {value}").unwrap();
    }
    names.push(format!("`{long}`"));
    names.join(", ")
}

fn default(argument: &Arg) -> String {
    if argument.is_required_set() {
        return "required".to_owned();
    }
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let values: Vec<_> =
        argument.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
    if values.is_empty() { String::new() } else { format!("`{}`", values.join(" ")) }
}

#[test]
fn environment() {
    let source = read("src/env.rs");
    let mut text = "| variable | meaning |\n|---|---|\n".to_owned();
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `"));
    for row in rows {
        let (names, meaning) = row.trim_end_matches(" |").split_once(" | ").expect("two columns");
        writeln!(text, "| `{names} | {} |", without_section(meaning)).unwrap();
    }
    let mut flags: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for_each_command("compute_ctl", &built(), &mut |name, command| {
        for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
            let variable = argument.get_env().unwrap_or_default().to_string_lossy().into_owned();
            let flag = argument.get_long().unwrap_or_default().to_owned();
            flags.entry(variable).or_insert((flag, Vec::new())).1.push(format!("`{name}`"));
        }
    });
    let mut table = "| variable | the same as | of |\n|---|---|---|\n".to_owned();
    for (variable, (flag, commands)) in flags {
        writeln!(table, "| `{variable}` | `--{flag}` | {} |", commands.join(", ")).unwrap();
    }
    let parts = [("variables".to_owned(), text.clone()), ("flags".to_owned(), table)];
    check("docs/reference/environment.md", &parts);

    // Each one also has a row below, with more detail.
    let page = read("docs/reference/environment.md");
    let (_, below) = page.split_once("<!-- end -->").unwrap();
    for line in text.lines().skip(2) {
        let names = line.split('|').nth(1).unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(below.contains(&format!("`{name}`")), "docs/reference/environment.md: {name}");
        }
    }
}

/// Removes the reference to the contract at the end, such as `(01 §2)`.
fn without_section(text: &str) -> &str {
    match text.rsplit_once(" (") {
        Some((before, section)) if section.contains('§') && section.ends_with(')') => before,
        _ => text,
    }
}

#[test]
fn http_api() {
    let document: Value = serde_json::from_str(&read("openapi.json")).unwrap();
    let mut parts = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            parts.push((name, self::operation(path, operation)));
        }
    }
    check("docs/reference/http-api.md", &parts);
}

/// The description of one operation.
fn operation(path: &str, operation: &Value) -> String {
    let server = match operation["tags"][0].as_str().unwrap() {
        // Both servers have it, and it is described once.
        _ if path == "/openapi.json" => "external and internal",
        server => server,
    };
    let token = if operation["security"].is_array() { "token" } else { "no token" };
    let mut text =
        format!("{}. Server: {server}; {token}.\n\n", operation["summary"].as_str().unwrap());
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters: Vec<_> = parameters
        .map(|parameter| {
            let needed = if parameter["required"] == true { "required" } else { "optional" };
            let (name, place) = (&parameter["name"], &parameter["in"]);
            let description = parameter["description"].as_str().unwrap_or_default();
            let (name, place) = (name.as_str().unwrap(), place.as_str().unwrap());
            format!("| `{name}` | {place} | {needed} | {} |\n", cell(without_section(description)))
        })
        .collect();
    if !parameters.is_empty() {
        text.push_str("| parameter | in | | meaning |\n|---|---|---|---|\n");
        text.push_str(&parameters.concat());
        text.push('\n');
    }
    text.push_str("| status | meaning |\n|---|---|\n");
    for (status, response) in operation["responses"].as_object().unwrap() {
        let description = response["description"].as_str().unwrap();
        writeln!(text, "| {status} | {} |", cell(without_section(description))).unwrap();
    }
    text
}

#[test]
fn states() {
    let event = |event: Event| match event {
        Event::Configure => "`/configure`",
        Event::CertificateChanged => "certificate renewed",
        Event::BeginStart => "start begins",
        Event::BeginConfiguration => "reconfiguration begins",
        Event::Refresh => "`/refresh_configuration`",
        Event::BeginRefresh => "refresh begins",
        Event::Succeeded => "success",
        Event::Failed => "failure",
        Event::Refused => "refusal",
        Event::Terminate(TerminateMode::Fast) => "`/terminate?mode=fast`",
        Event::Terminate(TerminateMode::Immediate) => "`/terminate?mode=immediate`",
        Event::PostgresExited => "Postgres exits",
        Event::Signal => "signal",
        Event::Ended => "end complete",
    };
    let mut text = String::from("| status | event | next status |\n|---|---|---|\n");
    for status in ComputeStatus::ALL {
        let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for step in Event::ALL {
            if let Some(next) = transition(status, step) {
                targets.entry(next.name()).or_default().push(event(step));
            }
        }
        for (next, events) in targets {
            writeln!(text, "| `{}` | {} | `{next}` |", status.name(), events.join(", ")).unwrap();
        }
    }
    check("docs/reference/states.md", &[("transitions".to_owned(), text)]);
    let page = read("docs/reference/states.md");
    for status in ComputeStatus::ALL {
        assert!(page.contains(&format!("| `{}` | ", status.name())), "{status}");
    }
}

/// Members of the structs of a source file that are read from JSON, by struct.
fn members(file: &str) -> Vec<(String, Vec<String>)> {
    let source = read(file);
    let mut structs = Vec::new();
    let mut derives = String::new();
    let mut current: Option<(String, Vec<String>)> = None;
    for line in source.lines() {
        if line.starts_with("#[derive(") {
            line.clone_into(&mut derives);
        } else if let Some(name) = line.strip_prefix("pub struct ")
            && let Some(name) = name.strip_suffix(" {")
            && derives.contains("Deserialize")
        {
            current = Some((name.to_owned(), Vec::new()));
        } else if line == "}" {
            structs.extend(current.take());
        } else if let Some((_, members)) = &mut current
            && let Some((name, _)) = line.trim_start().trim_start_matches("pub ").split_once(": ")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            members.push(name.to_owned());
        }
    }
    structs
}

#[test]
fn members_of_the_documents() {
    let mut wanted = members("src/spec/wire.rs");
    wanted.extend(members("src/spec/pageserver.rs"));
    assert!(wanted.len() > 15, "{wanted:?}");
    let page = read("docs/reference/spec.md");
    for (name, members) in &wanted {
        let (_, section) = page
            .split_once(&format!("\n## {name}\n"))
            .unwrap_or_else(|| panic!("docs/reference/spec.md has no section `## {name}`"));
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let on_page: Vec<_> = rows.map(|row| row.split('`').next().unwrap()).collect();
        assert_eq!(&on_page, members, "docs/reference/spec.md, {name}");
        assert!(section.contains("```json"), "docs/reference/spec.md, {name}: no example");
    }
    // Examples are JSON.
    for (at, block) in page.split("```json\n").skip(1).enumerate() {
        let block = block.split("```").next().unwrap();
        if let Err(error) = serde_json::from_str::<Value>(block) {
            panic!("docs/reference/spec.md, example {at}: {error}\n{block}");
        }
    }
}

/// Pages about messages quote texts of the program, with `…` for variable parts.
#[test]
fn messages_are_those_of_the_program() {
    let mut sources = String::new();
    let mut folders = vec![path("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(entry).unwrap());
            }
        }
    }
    // Long texts are continued on the next line.
    let mut text = String::new();
    let mut continued = false;
    for line in sources.lines() {
        let line = if continued { line.trim_start() } else { line };
        continued = line.ends_with('\\');
        text.push_str(line.trim_end_matches('\\'));
        if !continued {
            text.push('\n');
        }
    }
    let mut quoted = 0;
    let pages =
        [("docs/how-to/debug-a-failed-start.md", "### `"), ("docs/reference/log.md", "| `")];
    for (page, prefix) in pages {
        for line in read(page).lines().filter(|line| line.starts_with(prefix)) {
            let message = line.split('`').nth(1).unwrap();
            for fragment in message.split('…').map(str::trim).filter(|text| !text.is_empty()) {
                let escaped = fragment.replace('"', "\\\"");
                // The program puts the beginning of a failed file operation in front.
                let operation = fragment.trim_start_matches("could not ");
                let whole = [fragment, &escaped].into_iter().any(|it| text.contains(it));
                let found = whole || text.contains(&format!("failed(\"{operation}\""));
                assert!(found, "{page}: the sources lack {fragment:?}, of {message:?}");
            }
            quoted += 1;
        }
    }
    assert!(quoted > 60, "{quoted}");
}

#[test]
fn the_readme_is_an_entrance() {
    let lines = read("README.md").lines().count();
    assert!(
        lines <= 150,
        "README.md has {lines} lines, at most 150 are wanted: the rest is a page in docs"
    );
}
