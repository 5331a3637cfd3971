//! Each operation of the API has a method on the client.
//!
//! **The rule: the documentation of the method begins with the operation**, as in `GET /status`.

use std::path::Path;

use super::sources;

/// Operations without a method, each with the reason.
const WITHOUT: [(&str, &str); 2] = [
    ("GET /", "a page for a browser; `details()` has what it shows"),
    ("GET /api", "a page for a browser; `description()` has what it shows"),
];

#[test]
fn each_operation_has_a_method() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let text = std::fs::read_to_string(path).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let client: Vec<_> =
        sources().into_iter().filter(|it| it.name.starts_with("client/")).collect();
    let has_method = |operation: &str| {
        // A method may be for one way to use the operation, so the query may differ.
        let starts = [format!("    /// `{operation}`"), format!("    /// `{operation}?")];
        client.iter().any(|source| {
            let mut lines = source.text.lines();
            lines.by_ref().any(|line| starts.iter().any(|start| line.starts_with(start)))
                && lines
                    .find(|line| !line.starts_with("    ///"))
                    .is_some_and(|line| line.starts_with("    pub async fn "))
        })
    };
    let mut missing = Vec::new();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let operation = format!("{} {path}", method.to_uppercase());
            let excepted = WITHOUT.iter().any(|(it, _)| *it == operation);
            if has_method(&operation) == excepted {
                missing.push(operation);
            }
            count += 1;
        }
    }
    assert!(count > 25, "{count}");
    assert!(missing.is_empty(), "no method, or an exception that is not needed: {missing:?}");
}
