//! Sections of the contract that oblige, and whether a test cites them.

use std::collections::BTreeSet;

use super::contract::{Contract, Section};
use super::reference::{Reference, Target, references};
use super::tree::{self, File};

/// The line below a heading with obligations that no test cites.
const UNTESTED: &str = "No test cites this section.";

/// Begins the line below a heading that names tests which do not cite it.
const TESTED: &str = "Tested by ";

/// The line below a heading that repeats obligations of other sections.
const OVERVIEW: &str = "An overview: what is tested is said where the details are.";

/// The line below a heading, or a title, of a part that this version does not have.
const ABSENT: &str = "Not in this version.";

type Cited = BTreeSet<(u32, String)>;

/// The sections that tests cite, directly or by a case in one of the lists of cases: then the
/// citations of the case count.
pub fn cited_by_tests(contract: &Contract) -> Cited {
    let mut cited = Cited::new();
    for file in tree::tests_only() {
        for (_, it) in references(&file.text, None) {
            add(&mut cited, &it);
            let row = contract.row(&it).unwrap_or_default();
            for (_, named) in references(row, Some(it.document)) {
                add(&mut cited, &named);
            }
        }
    }
    cited
}

fn add(cited: &mut Cited, it: &Reference) {
    if let Target::Section(number) = &it.target {
        cited.insert((it.document, number.clone()));
    }
}

/// Headings with a missing or wrong mark, as `file:line: what`.
pub fn wrongly_marked(contract: &Contract, cited: &Cited) -> Vec<String> {
    let (files, mut wrong) = (tree::with_tests(), Vec::new());
    for document in contract.documents().iter().filter(|it| first_line(&it.preamble) != ABSENT) {
        for section in &document.sections {
            let numbers = parents(&section.number);
            let above: Vec<_> = numbers.iter().filter_map(|it| document.section(it)).collect();
            let titles: Vec<_> = above.iter().map(|it| it.title.as_str()).collect();
            let absent = above.iter().any(|it| first_line(&it.text) == ABSENT);
            let tested = numbers.iter().any(|it| cited.contains(&(document.number, (*it).into())));
            let line = first_line(&section.text);
            let told = line == OVERVIEW || line.starts_with(TESTED);
            let untested = obliges(section, &titles) && !absent && !tested && !told;
            let problem = match (untested, line == UNTESTED) {
                (true, false) => Some(format!("needs the line {UNTESTED:?}, or {TESTED:?}")),
                (false, true) => Some(format!("must lose the line {UNTESTED:?}")),
                _ => named_tests(line)
                    .find(|it| !has_tests(it, &files))
                    .map(|it| format!("there are no tests in {it}")),
            };
            if let Some(problem) = problem {
                let (name, at) = (&document.name, section.line);
                wrong.push(format!("{name}:{at}: {}: {problem}", section.title));
            }
        }
    }
    wrong
}

/// The names in a line "Tested by `first_start`, `src/http`."
fn named_tests(line: &str) -> impl Iterator<Item = &str> {
    line.strip_prefix(TESTED).unwrap_or_default().split('`').skip(1).step_by(2)
}

/// Whether such tests exist: those of a module, a scenario, by the name of its file, with or
/// without that of its folder, or a folder of scenarios.
fn has_tests(name: &str, files: &[File]) -> bool {
    let mut files = files.iter().filter(|it| {
        if name.starts_with("src/") {
            let rest = it.name.strip_prefix(name);
            return rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'));
        }
        let Some(path) = it.name.strip_prefix("tests/it/") else { return false };
        let path = path.trim_end_matches(".rs");
        path.replace('/', "_") == name || path.split('/').any(|part| part == name)
    });
    files.any(|it| ["#[test]", "#[tokio::test"].iter().any(|mark| it.text.contains(mark)))
}

fn first_line(text: &str) -> &str {
    text.lines().find(|it| !it.is_empty()).unwrap_or_default()
}

/// A number and those of the headings above it: for `7.9a` also `7.9` and `7`.
fn parents(number: &str) -> Vec<&str> {
    let mut all = vec![number];
    let digits = number.trim_end_matches(char::is_alphabetic);
    if digits != number {
        all.push(digits);
    }
    let mut rest = digits;
    while let Some((above, _)) = rest.rsplit_once('.') {
        all.push(above);
        rest = above;
    }
    all
}

/// Whether the section contains a MUST: by a mark in its text or in a column for it, by its
/// heading, or by the nearest heading above it with a weight.
fn obliges(section: &Section, titles: &[&str]) -> bool {
    const WEIGHTS: [&str; 4] = ["MUST", "[M]", "SHOULD", "MAY"];
    let weighed = titles.iter().find(|it| WEIGHTS.iter().any(|weight| it.contains(weight)));
    let by_title = weighed.is_some_and(|it| it.contains("MUST") || it.contains("[M]"));
    let marks = ["[M]", "[M:", "[M ", "**MUST", "| M |", "| MUST |"];
    let by_text = marks.iter().any(|it| section.text.contains(it));
    by_text || (by_title && !section.text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Section {
        Section { number: "7.9a".into(), title: String::new(), line: 1, text: text.into() }
    }

    #[test]
    fn weights() {
        for (text, titles, expected) in [
            ("x [M: y]", vec!["2. A"], true),
            ("| a | M |\n", vec!["2. A"], true),
            ("x [S]", vec!["2. A"], false),
            ("x", vec!["2.1 A", "2. B (MUST)"], true),
            ("x", vec!["2.1 A (SHOULD)", "2. B (MUST)"], false),
            ("\n", vec!["2. B (MUST)"], false),
        ] {
            assert_eq!(obliges(&section(text), &titles), expected, "{text:?} {titles:?}");
        }
        assert_eq!(parents("7.9a"), ["7.9a", "7.9", "7"]);
        assert_eq!(first_line("\nNo test cites this section.\n\nx"), UNTESTED);
        let named: Vec<_> = named_tests("Tested by `lfc`, `src/http`.").collect();
        assert_eq!(named, ["lfc", "src/http"]);
        let file = |name: &str, text: &str| File { name: name.into(), text: text.into() };
        let files = [
            file("tests/it/a/b.rs", "#[tokio::test]"),
            file("src/c/d.rs", "#[test]"),
            file("src/e.rs", "#[test]"),
            file("src/f/g.rs", "no test"),
        ];
        for name in ["a", "b", "a_b", "src/c", "src/e"] {
            assert!(has_tests(name, &files), "{name}");
        }
        for name in ["b_a", "src/f", "src/", "c", "tests"] {
            assert!(!has_tests(name, &files), "{name}");
        }
    }
}
