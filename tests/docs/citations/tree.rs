//! The files of the tree that cite the contract, and those that are documents.

use std::fs;
use std::path::Path;

/// A text and its path below the root of the tree.
pub struct File {
    pub name: String,
    pub text: String,
}

impl File {
    /// The number of this document, if it belongs to the contract.
    pub fn own_document(&self) -> Option<u32> {
        self.name.strip_prefix("docs/contract/0")?.get(..1)?.parse().ok()
    }
}

/// All files that may cite the contract, except these tests, which contain wrong examples on
/// purpose.
pub fn citing() -> Vec<File> {
    let mut all = below("src", &["rs", "sql"]);
    all.extend(tests());
    all.extend(below("benches", &["rs"]));
    all.extend(documents());
    all.extend(["Cargo.toml", "build.rs"].map(file));
    all
}

/// The files below `tests`, and the tests of the library, which are at the end of its files.
pub fn tests_only() -> Vec<File> {
    let mut all = tests();
    for File { name, text } in below("src", &["rs"]) {
        if name.contains("tests") {
            all.push(File { name, text });
        } else if let Some(at) = text.find("\n#[cfg(test)]\nmod tests {") {
            all.push(File { name, text: text[at..].to_owned() });
        }
    }
    all
}

/// All files that may contain tests, in full.
pub fn with_tests() -> Vec<File> {
    let mut all = below("src", &["rs"]);
    all.extend(tests());
    all
}

fn tests() -> Vec<File> {
    let mut all = below("tests", &["rs"]);
    all.retain(|it| !it.name.starts_with("tests/docs/citations/"));
    all
}

/// The documents at the top and below `docs`.
pub fn documents() -> Vec<File> {
    let mut all = below("docs", &["md"]);
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            all.push(file(&name));
        }
    }
    all
}

pub fn file(name: &str) -> File {
    let text = fs::read_to_string(root().join(name)).unwrap();
    File { name: name.to_owned(), text }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn below(folder: &str, endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            found.extend(below(&name, endings));
        } else if endings.iter().any(|it| name.ends_with(&format!(".{it}"))) {
            found.push(file(&name));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}
