//! Checks every SQL text of the program, when the tests run.
//!
//! **The rule: SQL of ours looks nothing up by its bare name.** Relations, functions, types and
//! collations are written with their schema, operators as `OPERATOR(pg_catalog.=)`. Constructs
//! that Postgres turns into an operator that it looks up by name (`IN (…)`, `LIKE`, `BETWEEN`,
//! `NULLIF`, `IS DISTINCT FROM`, `CASE x WHEN`, `JOIN … USING (…)`) are not used at all. Sessions
//! also have an empty `search_path`; the rule holds where a database, a role or a function changes
//! that. Without the rule an object of a tenant with a closer match of argument types runs as
//! superuser.
//!
//! The check reads each `.sql` file below `src`, and each literal of the Rust code there that
//! begins with a word of SQL in capitals, parts of statements (`AND …`) included. It does not see
//! a text as a whole that is put together from smaller pieces, so keep one statement in one
//! literal. It assumes that the text for a placeholder is qualified.

mod rules;
mod rules_tests;
mod texts;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use rules::Finding;

const RULE: &str = "SQL of ours looks nothing up by its bare name: write `pg_catalog.` before \
    relations, functions and types, `OPERATOR(pg_catalog.=)` for operators, and `=` with ANY, OR \
    or a searched CASE for what Postgres would turn into an operator by name (IN, LIKE, BETWEEN)";

#[test]
fn sql_of_ours_looks_nothing_up_by_its_bare_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let (mut seen, mut faults) = (0, Vec::new());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let texts = if file.extension().is_some_and(|extension| extension == "sql") {
            vec![tokens::text(&source, 1)]
        } else {
            texts::in_rust(&source)
        };
        seen += texts.len();
        let name = file.strip_prefix(&root).unwrap().display();
        let found = texts.iter().flat_map(rules::check);
        faults.extend(found.map(|Finding { line, what }| format!("src/{name}:{line}: {what}")));
    }
    assert!(seen > 60, "only {seen} texts were found: the search itself is broken");
    assert!(faults.is_empty(), "{RULE}.\n{}\n", faults.join("\n"));
}

/// Collects neither tests nor the stand-in storage, which does not speak SQL with Postgres.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let stem = name.strip_suffix(".rs").unwrap_or(&name);
        if ["tests", "testing", "fuzzing"].contains(&stem)
            || stem == "dev"
            || stem.ends_with("_tests")
        {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if name.ends_with(".rs") || name.ends_with(".sql") {
            files.push(path);
        }
    }
}
