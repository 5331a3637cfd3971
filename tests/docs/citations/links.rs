//! Links of documents to files of the tree and to headings, by GitHub's rules.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::tree::{self, File};

/// The links of a document without a target, as `file:line: link`.
pub fn broken(document: &File) -> Vec<String> {
    let folder = Path::new(&document.name).parent().unwrap();
    let leads_somewhere = |link: &str| {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let name =
            if path.is_empty() { PathBuf::from(&document.name) } else { flat(&folder.join(path)) };
        let Ok(found) = fs::metadata(tree::root().join(&name)) else {
            return false;
        };
        anchor.is_empty()
            || (found.is_file()
                && anchors(&tree::file(name.to_str().unwrap()).text).iter().any(|it| it == anchor))
    };
    links(&document.text)
        .into_iter()
        .filter(|(_, link)| !leads_somewhere(link))
        .map(|(line, link)| format!("{}:{line}: {link}", document.name))
        .collect()
}

/// The path without `..`.
fn flat(path: &Path) -> PathBuf {
    let mut all = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                all.pop();
            }
            part => all.push(part),
        }
    }
    all
}

/// Links within the tree, with their lines. Code is skipped.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in prose(text) {
        // Every second piece is code.
        let text: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for piece in text.split("](").skip(1) {
            let link = piece.split([')', ' ']).next().unwrap_or_default();
            if !link.contains("://") && !link.starts_with("mailto:") {
                found.push((line, link.to_owned()));
            }
        }
    }
    found
}

/// The lines outside of code blocks.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered
        .filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .collect()
}

/// The anchors of all headings: lower case, no punctuation, hyphens for blanks, and a number after
/// a repeated one.
fn anchors(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let lower = title.trim().to_lowercase();
        let kept = lower.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = all.iter().filter(|&it| {
            *it == anchor
                || it
                    .strip_prefix(&format!("{anchor}-"))
                    .is_some_and(|it| it.parse::<u32>().is_ok())
        });
        let before = before.count();
        all.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_by_the_rules_of_github() {
        let text = "# A `b` c, D!\n## x\n```sh\n# no heading\n```\n## x\n### 7.1 Go — now (MUST)\n";
        assert_eq!(anchors(text), ["a-b-c-d", "x", "x-1", "71-go--now-must"]);
    }

    #[test]
    fn what_leads_nowhere_is_found() {
        let text = "[a](mod.rs) [b](gone.rs) [c](#here) [d](#gone) `[e](code)`\n\n# Here\n\
                    [f](https://example.org/x) [g](../../../Cargo.toml) [h](../citations)\n";
        let name = "tests/docs/citations/x.md".to_owned();
        let found = links(text);
        assert_eq!(found.len(), 6, "{found:?}");
        let document = File { name, text: text.replace("#here", "links.rs") };
        assert_eq!(
            broken(&document),
            ["tests/docs/citations/x.md:1: gone.rs"]
                .map(str::to_owned)
                .into_iter()
                .chain(["tests/docs/citations/x.md:1: #gone".to_owned()])
                .collect::<Vec<_>>()
        );
    }
}
