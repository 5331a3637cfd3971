//! Properties of the reader and the writer of `postgresql.conf`, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

mod scanner;

use serde_json::{Value as Json, json};

use super::lexer::{is_guc_name, is_plain_value, read_line, read_text};
use super::render::render_line;
use super::{Body, ConfFile, ConfInputs, Value, literal, parse_line};
use crate::catalog::plan::check_document;
use crate::fuzzing::lines;
use crate::spec::ComputeSpec;
use crate::spec::fuzzing::bare_spec;

/// A spec, from its document to the file.
pub(crate) fn spec(data: &[u8]) {
    let Some(parsed) = bare_spec(data) else { return };
    let _ = check_document(&parsed.spec);
    written(&parsed.spec);
}

/// A text is read as the scanner of Postgres reads it.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = read_text(text);
    if !text.contains('\0') {
        let reference = scanner::read(text.as_bytes());
        assert_eq!(read.map_err(|error| error.line), reference);
    }
    if let Some((name, value)) = parse_line(text) {
        assert!(is_guc_name(name) && !value.contains('\0'), "{name}");
        let again = format!("{name} = {} # 'x", literal(&value));
        assert_eq!(read_line(&again), Ok(Some((name, value))));
    }
    if is_guc_name(text) {
        assert_eq!(read_line(&format!("{text}='1'")), Ok(Some((text, "1".to_owned()))));
    }
    if is_plain_value(text) {
        assert_eq!(read_line(&format!("a = {text}")), Ok(Some(("a", text.to_owned()))));
    }
}

/// A base text and settings: the last lines are one setting each, `type name value`.
pub(crate) fn file(data: &[u8]) {
    let Some(([first, second, third], base_text)) = lines(data) else { return };
    let setting = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (vartype, name, value) = (words.next(), words.next(), words.next());
        // The value of a string may have more than one line.
        let value = value.map(|value| value.replace('\u{b6}', "\n"));
        json!({"vartype": vartype, "name": name.unwrap_or_default(), "value": value})
    };
    let spec: Json = json!({
        "format_version": 1.0,
        "suspend_timeout_seconds": 0,
        "cluster": {
            "roles": [], "databases": [], "postgresql_conf": base_text,
            "settings": [setting(first), setting(second), setting(third)],
        },
    });
    written(&serde_json::from_value(spec).expect("this form is a spec"));
}

/// A file that is built can be rendered, and each of its settings is read as it was meant.
fn written(spec: &ComputeSpec) {
    let inputs = ConfInputs {
        privileged_role_name: "neon_superuser",
        internal_http_port: 3081,
        overcommit_strict: true,
        tls: true,
        lakebase_port: None,
    };
    let Ok(conf) = ConfFile::build(spec, &inputs) else { return };
    let text = conf.render().expect("a file that is built can be rendered");
    let read = read_text(text.expose());
    assert_eq!(read.is_ok(), conf.unreadable().is_empty());
    let mut settings = Vec::new();
    for line in conf.lines() {
        let mut text = String::new();
        render_line(line, &mut text).expect("a file that is built can be rendered");
        match &line.body {
            Body::Setting { name, value } => {
                assert!(!text.contains('\n'), "{text}");
                let read = read_line(&text);
                if let Value::Quoted(value) = value {
                    assert_eq!(read, Ok(Some((name.as_str(), value.expose().clone()))));
                }
                settings.extend(read.ok().flatten().map(|(name, value)| (name.to_owned(), value)));
            }
            Body::Verbatim(lines) => {
                let read = read_text(lines.expose()).expect("a base text is checked");
                settings.extend(read.into_iter().map(|(name, value)| (name.to_owned(), value)));
            }
            Body::Comment(comment) => assert_eq!(read_text(comment), Ok(Vec::new())),
        }
    }
    if let Ok(read) = read {
        let read: Vec<_> = read.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(read, settings);
    }
}
