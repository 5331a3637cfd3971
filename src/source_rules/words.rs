//! Words that make a text hard to read at full speed, kept out of comments, messages and pages.
//!
//! **The rule: plain technical English.** A program is "it"; "is not a", not "is no"; a sentence has a
//! subject. `CONTRIBUTING.md` says more.

use std::fs;
use std::path::{Path, PathBuf};

/// Each is a persons' word where a program is meant, or a filler.
const WORDS: [&str; 4] = ["nobody", "somebody", "whoever", "meanwhile"];

/// What has these endings is read: sources, pages, scripts.
const KINDS: [&str; 5] = [".rs", ".sql", ".md", ".toml", ".proto"];

/// Folders and files of the tree; what is elsewhere is made by programs.
const PLACES: [&str; 12] = [
    "src",
    "tests",
    "benches",
    "docs",
    "deploy",
    ".ci/run",
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "Cargo.toml",
    "clippy.toml",
];

/// The first word or phrase in a line that does not belong there.
fn fault(line: &str) -> Option<&'static str> {
    let line = line.to_lowercase();
    // Not `nobody` in quotes, which is the name of a user.
    let ends = |c: char| ".,:;()?!".contains(c);
    let mut words = line.split_whitespace().map(|word| word.trim_matches(ends));
    let found = words.find_map(|word| WORDS.iter().find(|it| **it == word));
    found.copied().or_else(|| is_no(&line))
}

/// "X is no Y" for "X is not a Y". "There is no Y" and "is no longer" are ordinary English; so may be
/// what stands at the begin of a line, whose sentence began on the line before.
fn is_no(line: &str) -> Option<&'static str> {
    ["is no ", "are no "].into_iter().find(|phrase| {
        line.match_indices(phrase).any(|(at, _)| {
            let (before, rest) = line.split_at(at);
            let after = rest.strip_prefix(phrase).unwrap();
            let before = before.trim_start_matches(['/', '!', '*', '#', ' ', '-', '"']);
            let starts_a_word = !before.ends_with(|c: char| c.is_alphanumeric());
            let ordinary = before.is_empty()
                || ["there ", "what ", "which "].iter().any(|it| before.ends_with(it))
                || ["longer", "more ", "doubt"].iter().any(|it| after.starts_with(it));
            starts_a_word && !ordinary
        })
    })
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        found.push(path.to_owned());
        return;
    }
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap();
        if path.is_dir() || KINDS.iter().any(|kind| name.ends_with(kind)) {
            files(&path, found);
        }
    }
}

#[test]
fn texts_are_plain() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for place in PLACES {
        files(&root.join(place), &mut all);
    }
    assert!(all.len() > 400, "only {} files were found", all.len());
    let mut faults = Vec::new();
    for path in all.iter().filter(|path| !path.ends_with("source_rules/words.rs")) {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().zip(1..);
        faults.extend(lines.filter_map(|(line, number)| {
            let path = path.strip_prefix(root).unwrap().display();
            Some(format!("{path}:{number}: {:?}", fault(line)?))
        }));
    }
    assert!(faults.is_empty(), "say it in plain words:\n{}", faults.join("\n"));
}

#[test]
fn what_is_found() {
    for (line, expected) in [
        ("/// Nobody waits.", Some("nobody")),
        ("// a child is no orphan", Some("is no ")),
        ("// These are no keys.", Some("are no ")),
        ("there is no spec, and it is no longer needed", None),
        ("/// is no question", None),
        ("`nobody` --user=nobody \"nobody\" nobodys", None),
    ] {
        assert_eq!(fault(line), expected, "{line}");
    }
}
