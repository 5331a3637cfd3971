//! An error says its cause once, in its own text (see [`crate::errors`]).

use super::sources;

/// What follows each `#[error(`: the text, and the variant or the type with its fields.
fn errors(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split("#[error(").skip(1);
    // What follows the last variant is not part of it.
    items.map(|item| item.split("\n}\n").next().unwrap_or_default())
}

/// Why an error whose item begins with `item` would say its cause twice in a chain.
fn fault(item: &str) -> Option<&'static str> {
    let fields = item.lines().map(|line| line.split("//").next().unwrap_or_default());
    let names = fields.map(|line| line.trim().trim_start_matches("pub").trim_start());
    let names = names.map(|line| line.trim_start_matches("(crate)").trim_start_matches("(super)"));
    let mut names = names.map(str::trim_start);
    if item.contains("#[source]") {
        Some("#[source]")
    } else if item.contains("#[from]") && !item.starts_with("transparent)") {
        Some("#[from] without #[error(transparent)]")
    } else if names.any(|line| line.starts_with("source:")) || item.contains("{ source:") {
        Some("a field named `source`")
    } else {
        None
    }
}

/// The text of each error of ours has its causes, so none of them may also be its `source()`.
#[test]
fn no_error_says_its_cause_twice() {
    let mut faults = Vec::new();
    let mut seen = 0;
    for source in sources() {
        for item in errors(&source.text) {
            seen += 1;
            let start: String = item.chars().take(60).collect();
            faults.extend(fault(item).map(|fault| format!("{}: {fault}: {start}", source.name)));
        }
        if source.text.contains("fn source(&self)") {
            faults.push(format!("{}: its own `source()`", source.name));
        }
    }
    assert!(seen > 200, "only {seen} errors were found");
    assert!(faults.is_empty(), "put the cause into the text only:\n{}", faults.join("\n"));
}

#[test]
fn what_counts_as_twice() {
    for (item, faulty) in [
        ("\"no {0}\")]\n    A(#[source] io::Error),", true),
        ("\"no {0}\")]\n    A(#[from] io::Error),", true),
        ("\"no\")]\n    A(#[from] io::Error),", true),
        ("\"no {source}\")]\n    A {\n        pub(super) source: E,\n    },", true),
        ("\"no {source}\")]\n    A {\n        source: E,\n    },", true),
        ("\"no {source}\")]\n    A { source: E },", true),
        ("transparent)]\n    A(#[from] OurError),", false),
        ("\"no {error}\")]\n    A {\n        // source: of it\n        error: E,\n    },", false),
    ] {
        assert_eq!(fault(item).is_some(), faulty, "{item}");
    }
}
