//! Each message that has an entry in the page about failed starts is a text of the program.

use std::fs;
use std::path::Path;

const PAGE: &str = "docs/how-to/debug-a-failed-start.md";

/// Put together from two texts, so that the sources do not have them in one piece.
const COMPOSED: [&str; 2] =
    ["could not create the data directory", "could not connect to Postgres at"];

/// The texts of all sources in `folder`, with lines that a backslash continues in one piece.
fn texts(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, all);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap().replace("\\\"", "\"");
            let mut pieces = text.split("\\\n");
            all.push_str(pieces.next().unwrap());
            pieces.for_each(|piece| all.push_str(piece.trim_start()));
        }
    }
}

#[test]
fn every_entry_is_a_text_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    texts(&root.join("src"), &mut sources);
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### `"));
    let mut seen = 0;
    let mut unknown = Vec::new();
    for heading in headings {
        for part in heading.split('…') {
            let part = part.trim_matches(|c: char| c.is_whitespace() || "`:;,.()".contains(c));
            seen += 1;
            if part.len() >= 5 && !sources.contains(part) && !COMPOSED.contains(&part) {
                unknown.push(part);
            }
        }
    }
    assert!(seen > 80, "only {seen} parts were found");
    assert!(unknown.is_empty(), "{PAGE} has messages that the program does not have: {unknown:#?}");
}
