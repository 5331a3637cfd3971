//! The documents of the contract: their numbered headings, and the rows and list entries below.

use super::reference::{Reference, Target};
use super::tree::{self, File};

pub struct Contract {
    documents: Vec<Document>,
}

pub struct Document {
    /// 1 to 9.
    pub number: u32,
    pub name: String,
    /// The text before the first section.
    pub preamble: String,
    pub sections: Vec<Section>,
}

/// A heading with a number, and the text below it up to the next one with a number.
pub struct Section {
    /// `18.5`; `7.9a` for a heading `(a)` below 7.9.
    pub number: String,
    pub title: String,
    pub line: usize,
    pub text: String,
}

impl Contract {
    pub fn read() -> Self {
        let files = tree::documents().into_iter();
        let documents: Vec<_> = files
            .filter_map(|it| it.own_document().map(|number| Document::parse(number, &it)))
            .collect();
        let numbers: Vec<_> = documents.iter().map(|it| it.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        Self { documents }
    }

    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    pub fn has(&self, it: &Reference) -> bool {
        self.documents.iter().any(|document| {
            document.number == it.document
                && match &it.target {
                    Target::Section(number) => {
                        document.section(number).is_some()
                            || number.rsplit_once('.').is_some_and(|(section, item)| {
                                document.item(section, item).is_some()
                            })
                    }
                    Target::Item(section, item) => document.item(section, item).is_some(),
                    Target::Weakness(number) => document.weakness(number).is_some(),
                    Target::Row(name) => document.row(name).is_some(),
                }
        })
    }

    /// The text of the row or list entry that is cited.
    pub fn row(&self, it: &Reference) -> Option<&str> {
        let document = self.documents.iter().find(|document| document.number == it.document)?;
        match &it.target {
            Target::Section(_) => None,
            Target::Item(section, item) => document.item(section, item),
            Target::Weakness(number) => document.weakness(number),
            Target::Row(name) => document.row(name),
        }
    }
}

impl Document {
    fn parse(number: u32, file: &File) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        let mut preamble = String::new();
        let mut fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            let heading = line.strip_prefix("##").filter(|_| !fenced).and_then(|it| {
                let title = it.trim_start_matches('#').trim();
                let letter = title.strip_prefix('(').and_then(|it| it.split_once(')'));
                let number = match letter {
                    Some((letter, _)) => {
                        let above = &sections.last()?.number;
                        format!("{}{letter}", above.trim_end_matches(char::is_alphabetic))
                    }
                    None => title.split(' ').next()?.trim_end_matches('.').to_owned(),
                };
                number.starts_with(|c: char| c.is_ascii_digit()).then_some((number, title))
            });
            if let Some((number, title)) = heading {
                let (title, text) = (title.to_owned(), String::new());
                sections.push(Section { number, title, line: index + 1, text });
            } else if index > 0 {
                let text = sections.last_mut().map_or(&mut preamble, |it| &mut it.text);
                text.push_str(line);
                text.push('\n');
            }
        }
        Self { number, name: file.name.clone(), preamble, sections }
    }

    pub fn section(&self, number: &str) -> Option<&Section> {
        self.sections.iter().find(|it| it.number == number)
    }

    /// The line that begins with this name or number, below that heading.
    fn item(&self, section: &str, item: &str) -> Option<&str> {
        self.section(section)?.item(item)
    }

    fn weakness(&self, number: &str) -> Option<&str> {
        let section = self.sections.iter().find(|it| it.title.contains("eaknesses"))?;
        section.item(number).or_else(|| section.item(&format!("W{number}")))
    }

    fn row(&self, name: &str) -> Option<&str> {
        self.sections.iter().find_map(|it| it.item(name))
    }
}

impl Section {
    fn item(&self, item: &str) -> Option<&str> {
        self.text.lines().find(|line| {
            let row = line.strip_prefix('|').and_then(|it| it.split_once('|'));
            let name = match row {
                // Marks such as ● stand after the name.
                Some((cell, _)) => cell.split_whitespace().next().map(|it| it.trim_matches('†')),
                None => line.trim_start().split_once(". ").map(|(number, _)| number),
            };
            name == Some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::references;
    use super::*;

    #[test]
    fn what_is_not_there_does_not_resolve() {
        let text = "# 03 — X\n\n## 1. First\n\n| # | x |\n|---|---|\n| R2 | y |\n| 7 ● | z |\n\n\
                    ### 1.1 Below\n\n#### (a) Letter\n\n1. one\n2. two\n\n## 2. Known weaknesses\n\n\
                    | # | x |\n|---|---|\n| W1 | y |\n\n```\n## 9. no heading\n```\n";
        let file = File { name: "docs/contract/03-x.md".to_owned(), text: text.to_owned() };
        let contract = Contract { documents: vec![Document::parse(3, &file)] };
        for (cited, there) in [
            ("03 §1", true),
            ("03 §1.1", true),
            ("03 §1.1a", true),
            ("03 §1.1a no. 2", true),
            ("03 §1 no. 7", true),
            ("03 §1.7", true),
            ("03 R2", true),
            ("03 W1", true),
            ("03 §1.2", false),
            ("03 §1.1b", false),
            ("03 §1.1a no. 3", false),
            ("03 §1 no. 8", false),
            ("03 R3", false),
            ("03 W2", false),
            ("03 §9", false),
            ("04 §1", false),
        ] {
            let found = references(cited, None);
            assert!(!found.is_empty(), "{cited}");
            let resolved = found.iter().all(|(_, it)| contract.has(it));
            assert_eq!(resolved, there, "{cited}");
        }
    }
}
