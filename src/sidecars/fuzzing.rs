//! Properties of the files of other programs, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::path::Path;

use super::ini::set;
use super::rsyslog_conf::{AuditEndpoints, AuditInputs, audit, export, quoted};
use crate::fuzzing::lines;

/// Two settings, each `name=value` in a line, and a file. What is not set stays; what is set is
/// read back; a second time changes nothing.
pub(crate) fn ini(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let mut entry = || {
        let line = std::str::from_utf8(parts.next()?).ok()?;
        Some(line.split_once('=').unwrap_or((line, "")))
    };
    let (Some(first), Some(second)) = (entry(), entry()) else { return };
    let Some(file) = parts.next() else { return };
    let entries = [first, second];
    let Ok(after) = set(file, "pgbouncer", &entries) else { return };
    assert_eq!(set(&after, "pgbouncer", &entries).as_deref(), Ok(after.as_slice()));
    let is_set = |name: &[u8]| entries.iter().any(|(other, _)| other.as_bytes() == name);
    for (name, _) in entries {
        let (_, value) = entries.iter().rfind(|(other, _)| *other == name).unwrap();
        let read: Vec<_> =
            settings(&after).filter(|it| it.0 == b"pgbouncer" && it.1 == name.as_bytes()).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].2, value.trim_ascii().as_bytes(), "{name}");
    }
    let others = |file| {
        let others = settings(file);
        others.filter(|(section, name, _)| !(*section == b"pgbouncer" && is_set(name)))
    };
    assert!(others(file).eq(others(&after)));
    let comments = |file: &[u8]| -> Vec<Vec<u8>> {
        let lines = file.split(|b| *b == b'\n').map(|line| line.trim_ascii().to_vec());
        lines.filter(|line| matches!(line.first(), Some(b';' | b'#' | b'%' | b'['))).collect()
    };
    assert_eq!(comments(file), comments(&after));
    assert!(
        after.len()
            <= file.len() + entries.map(|(n, v)| n.len() + v.len() + 4).iter().sum::<usize>()
    );
}

/// Section, name and value of each setting, as pgbouncer reads them.
fn settings(file: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    let mut section: &[u8] = b"";
    file.split(|b| *b == b'\n').filter_map(move |line| {
        let line = line.trim_ascii();
        match line.first()? {
            b';' | b'#' | b'%' => return None,
            b'[' => {
                let end = line.iter().position(|b| *b == b']').unwrap_or(line.len());
                section = line[1..end].trim_ascii();
                return None;
            }
            _ => {}
        }
        let equals = line.iter().position(|b| *b == b'=')?;
        Some((section, line[..equals].trim_ascii(), line[equals + 1..].trim_ascii()))
    })
}

/// Endpoint, host of the export, ids: no text adds a line or ends a string of the files.
pub(crate) fn rsyslog(data: &[u8]) {
    let Some(([endpoint, host, endpoint_id], project_id)) = lines(data) else { return };
    for text in [endpoint, host, endpoint_id, project_id] {
        let quoted = quoted(text);
        let (read, rest) = unquoted(&quoted).expect("a string");
        assert_eq!((read.as_str(), rest), (text, ""), "{quoted}");
        assert!(!quoted.contains(|c: char| c.is_ascii_control() || c == '$'), "{quoted}");
    }
    let plain = AuditEndpoints { plain: "a:1".to_owned(), tls: String::new() };
    let endpoints = AuditEndpoints { plain: String::new(), tls: endpoint.to_owned() };
    let text = |endpoints: &AuditEndpoints, endpoint_id, project_id| {
        let collector = endpoints.collector().ok()?;
        let (log_folder, work_folder) = (Path::new("/log"), Path::new("/work"));
        Some(audit(&collector, &AuditInputs { log_folder, work_folder, endpoint_id, project_id }))
    };
    let simple = text(&plain, "e", "p").expect("an endpoint");
    if let Some(audit) = text(&endpoints, endpoint_id, project_id) {
        assert_eq!(shape(&audit), shape(&simple.replace("\"false\";", "\"true\";")));
    }
    let simple = export(Some("a:1")).unwrap();
    if let Ok(export) = export(Some(host)) {
        assert_eq!(shape(&export), shape(&simple));
    }
}

/// A file without what is in its strings, and without the number of a port.
fn shape(file: &str) -> String {
    let mut shape = String::new();
    let mut rest = file;
    while let Some((before, _)) = rest.split_once('"') {
        shape.push_str(before);
        let (_, after) = unquoted(&rest[before.len()..]).expect("a closed string");
        rest = after;
    }
    shape + rest
}

/// The value of the string at the beginning, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    loop {
        let (at, c) = chars.next()?;
        match c {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => {
                let (_, first) = chars.next()?;
                if first.is_digit(8) {
                    let digits: String =
                        [first, chars.next()?.1, chars.next()?.1].into_iter().collect();
                    value.push(char::from(u8::from_str_radix(&digits, 8).ok()?));
                } else {
                    value.push(first);
                }
            }
            other => value.push(other),
        }
    }
}
