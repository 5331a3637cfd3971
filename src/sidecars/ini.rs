//! Edits one section of an INI file as pgbouncer reads it, and touches nothing else (04 §8).
//!
//! pgbouncer reads a value literally: no quotes, no escapes, blanks around it trimmed. So values
//! are written without any change. The file is treated as bytes: comments may be in any encoding.
//! Invariant: every byte outside the values that are set stays, line ends and comments included;
//! only duplicate lines of a key that is set are removed, since the last one would win.

use std::collections::HashSet;

/// Why a file cannot be edited. Values may hold passwords and are never repeated.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IniError {
    /// The section does not exist.
    #[error("there is no section [{0}]")]
    NoSection(String),
    /// pgbouncer would not read this as the name of a setting.
    #[error("{0:?} cannot be the name of a setting")]
    BadName(String),
    /// A value of more than one line.
    #[error("the value of {0} holds a line feed or another control character")]
    BadValue(String),
}

/// Sets `entries` in `section`: in place if the key exists, else at the end of the section in the
/// order given. Of two entries with one name the later counts.
///
/// # Errors
/// See [`IniError`].
pub(crate) fn set(
    text: &[u8],
    section: &str,
    entries: &[(&str, &str)],
) -> Result<Vec<u8>, IniError> {
    for (name, value) in entries {
        check(name, value)?;
    }
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for &(name, value) in entries {
        match wanted.iter_mut().find(|(other, _)| *other == name) {
            Some(entry) => entry.1 = value,
            None => wanted.push((name, value)),
        }
    }

    let mut out = Vec::with_capacity(text.len() + 256);
    let mut inside = false;
    let mut done = HashSet::new();
    // The place for new keys, and the line end there.
    let mut end: Option<(usize, bool)> = None;
    for line in text.split_inclusive(|&b| b == b'\n') {
        match Line::parse(line) {
            Line::Header(name) => {
                inside = name == section.as_bytes();
                out.extend_from_slice(line);
            }
            Line::Setting { name, before, value_end } if inside => {
                match wanted.iter().find(|(other, _)| other.as_bytes() == name) {
                    None => out.extend_from_slice(line),
                    Some((name, value)) if done.insert(*name) => {
                        out.extend_from_slice(before);
                        out.extend_from_slice(value.trim_ascii().as_bytes());
                        out.extend_from_slice(value_end);
                    }
                    // A duplicate: the line further up has the new value.
                    Some(_) => continue,
                }
            }
            Line::Setting { .. } => out.extend_from_slice(line),
            Line::Other => {
                out.extend_from_slice(line);
                continue;
            }
        }
        if inside {
            end = Some((out.len(), line.ends_with(b"\r\n")));
        }
    }

    let (end, crlf) = end.ok_or_else(|| IniError::NoSection(section.to_owned()))?;
    let line_end = if crlf { "\r\n" } else { "\n" };
    let mut added = String::new();
    for (name, value) in wanted.iter().filter(|(name, _)| !done.contains(name)) {
        added.push_str(&format!("{name}={}{line_end}", value.trim_ascii()));
    }
    let rest = out.split_off(end);
    if !added.is_empty() && !out.ends_with(b"\n") {
        // The file ends without a line feed, and keeps that.
        let added = added.trim_end_matches(['\r', '\n']);
        out.extend_from_slice(line_end.as_bytes());
        out.extend_from_slice(added.as_bytes());
    } else {
        out.extend_from_slice(added.as_bytes());
    }
    out.extend_from_slice(&rest);
    Ok(out)
}

/// Refuses a name or value that pgbouncer would not read as one setting with this value.
fn check(name: &str, value: &str) -> Result<(), IniError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(IniError::BadName(name.to_owned()));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(IniError::BadValue(name.to_owned()));
    }
    Ok(())
}

/// A line in the view of pgbouncer's parser.
enum Line<'a> {
    /// `[name]`.
    Header(&'a [u8]),
    /// `name = value`, cut before and behind the value.
    Setting { name: &'a [u8], before: &'a [u8], value_end: &'a [u8] },
    /// Comments, blank lines, `%include`, lines that are not INI.
    Other,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Self {
        let text = line.trim_ascii();
        match text.first() {
            None | Some(b';' | b'#' | b'%') => return Self::Other,
            Some(b'[') => {
                let name = text.strip_prefix(b"[").unwrap_or_default();
                let name = name.split(|&b| b == b']').next().unwrap_or_default();
                return Self::Header(name.trim_ascii());
            }
            Some(_) => {}
        }
        let Some(equals) = line.iter().position(|&b| b == b'=') else { return Self::Other };
        let (name, rest) = line.split_at(equals);
        let value = rest.get(1..).unwrap_or_default();
        // Blanks after `=` are the style of the file and stay, like those at the end of the line.
        // Without a value all blanks count as the end.
        let from = value.len() - value.trim_ascii_start().len();
        let from = if value.trim_ascii().is_empty() { 0 } else { from };
        let to = value.trim_ascii_end().len();
        let (before, _) = line.split_at(equals + 1 + from);
        let (_, value_end) = line.split_at(equals + 1 + to.max(from));
        Self::Setting { name: name.trim_ascii(), before, value_end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Value of a key in the view of pgbouncer: the last one counts.
    fn get<'a>(text: &'a [u8], section: &str, key: &str) -> Option<&'a [u8]> {
        let mut inside = false;
        let mut found = None;
        for line in text.split_inclusive(|&b| b == b'\n') {
            match Line::parse(line) {
                Line::Header(name) => inside = name == section.as_bytes(),
                Line::Setting { name, before, value_end } if inside && name == key.as_bytes() => {
                    found = line.get(before.len()..line.len() - value_end.len());
                }
                _ => {}
            }
        }
        found
    }

    fn edit(text: &str, entries: &[(&str, &str)]) -> String {
        String::from_utf8(set(text.as_bytes(), "pgbouncer", entries).unwrap()).unwrap()
    }

    /// 04 §8, with comments kept.
    #[test]
    fn the_documented_example() {
        let before = "[databases]\n*=host=localhost port=5432\n\n[pgbouncer]\n; how many\n\
                      pool_mode=transaction\ndefault_pool_size=64\nlisten_port=6432\n\n[users]\na=b\n";
        let entries = [("default_pool_size", "42"), ("pool_mode", "session"), ("zz", "1")];
        assert_eq!(
            edit(before, &entries),
            "[databases]\n*=host=localhost port=5432\n\n[pgbouncer]\n; how many\n\
             pool_mode=session\ndefault_pool_size=42\nlisten_port=6432\nzz=1\n\n[users]\na=b\n"
        );
    }

    #[test]
    fn style_of_a_line_and_line_ends_stay() {
        for (before, entries, after) in [
            (
                "[pgbouncer]\r\n  a =  1 \r\n",
                &[("a", "2"), ("b", "3")][..],
                "[pgbouncer]\r\n  a =  2 \r\nb=3\r\n",
            ),
            // No line feed at the end.
            ("[pgbouncer]", &[("a", "1"), ("b", "2")], "[pgbouncer]\na=1\nb=2"),
            ("[pgbouncer]\na=1", &[("a", "2")], "[pgbouncer]\na=2"),
            // An empty value.
            ("[pgbouncer]\na=\n", &[("a", "2")], "[pgbouncer]\na=2\n"),
            ("[pgbouncer]\na= \nb=1\n", &[("a", "x y")], "[pgbouncer]\na=x y \nb=1\n"),
            ("[pgbouncer]\na=2\n", &[("a", "")], "[pgbouncer]\na=\n"),
            // Duplicates collapse, also those in a second section of the same name.
            (
                "[pgbouncer]\na=1\n# c\na=2\n[x]\na=5\n[pgbouncer]\na=3\nq=1\n",
                &[("a", "9")],
                "[pgbouncer]\na=9\n# c\n[x]\na=5\n[pgbouncer]\nq=1\n",
            ),
            // Comments that look like settings, and equal names elsewhere.
            (
                "a=0\n[x]\na=1\n[pgbouncer]\n;a=2\n  # a=3\n%include a=4\n",
                &[("a", "9")],
                "a=0\n[x]\na=1\n[pgbouncer]\na=9\n;a=2\n  # a=3\n%include a=4\n",
            ),
            ("[pgbouncer]\na=1\n", &[("b", "1"), ("b", "2")], "[pgbouncer]\na=1\nb=2\n"),
            ("[pgbouncer]\na=1\n", &[], "[pgbouncer]\na=1\n"),
            (
                "[ pgbouncer ] \nauth_query=SELECT a=b\n",
                &[("auth_query", r#"S "\" 'x' = ;#"#)],
                "[ pgbouncer ] \nauth_query=S \"\\\" 'x' = ;#\n",
            ),
        ] {
            assert_eq!(edit(before, entries), after, "{before:?}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_name() {
        let ini = b"[pgbouncer]\n";
        for name in ["", "a b", "[x", ";a", "#a", "a=b", "a\nb", "%include", "ä"] {
            let error = set(ini, "pgbouncer", &[(name, "1")]).unwrap_err();
            assert_eq!(error, IniError::BadName(name.to_owned()));
        }
        for value in ["hunter2\nb=1", "hunter2\r", "hunter2\0"] {
            let error = set(ini, "pgbouncer", &[("a", value)]).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error, IniError::BadValue("a".to_owned()));
        }
        let error = set(b"[databases]\n", "pgbouncer", &[]).unwrap_err();
        assert_eq!(error.to_string(), "there is no section [pgbouncer]");
    }

    #[test]
    fn other_encodings_pass_through() {
        let before = b"; \xff\xfe\n[pgbouncer]\n; \xe4\na=1\n";
        let after = set(before, "pgbouncer", &[("a", "2")]).unwrap();
        assert_eq!(after, b"; \xff\xfe\n[pgbouncer]\n; \xe4\na=2\n");
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "(a|b|c|pool_mode)[ ]{0,2}=[ ]{0,2}[a-z= ;\"\\\\]{0,6}",
            "[ ]{0,2}[;#%][a-z= \\[\\]]{0,8}",
            "[ \t]{0,2}",
            "\\[(databases|users|pgbouncer)\\]",
        ]
    }

    fn file() -> impl Strategy<Value = String> {
        let lines =
            || prop::collection::vec((line(), prop_oneof![Just("\n"), Just("\r\n")]), 0..20);
        (lines(), lines(), any::<bool>()).prop_map(|(before, after, cut)| {
            let join = |lines: Vec<(String, &str)>| -> String {
                lines.into_iter().map(|(line, end)| line + end).collect()
            };
            let text = format!("{}[pgbouncer]\n{}", join(before), join(after));
            if cut { text.trim_end_matches(['\r', '\n']).to_owned() } else { text }
        })
    }

    /// Everything but the settings of `keys` in the section.
    fn others(text: &[u8], keys: &[&str]) -> Vec<Vec<u8>> {
        let mut inside = false;
        let mut rest = Vec::new();
        for line in text.split_inclusive(|&b| b == b'\n') {
            match Line::parse(line) {
                Line::Header(name) => inside = name == b"pgbouncer",
                Line::Setting { name, .. }
                    if inside && keys.iter().any(|key| key.as_bytes() == name) =>
                {
                    continue;
                }
                _ => {}
            }
            rest.push(line.to_vec());
        }
        rest
    }

    proptest! {
        #[test]
        fn only_the_keys_that_are_set_change(
            before in file(),
            values in prop::collection::vec(("(a|b|pool_mode|zz)", "[ -~äß]{0,10}"), 0..5),
        ) {
            let entries: Vec<_> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let after = set(before.as_bytes(), "pgbouncer", &entries).unwrap();
            let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();

            // Reading back gives the last value set, and all other settings unchanged.
            for key in ["a", "b", "c", "pool_mode", "zz"] {
                let expected = match entries.iter().rfind(|(name, _)| *name == key) {
                    Some((_, value)) => Some(value.trim_ascii().as_bytes()),
                    None => get(before.as_bytes(), "pgbouncer", key),
                };
                prop_assert_eq!(get(&after, "pgbouncer", key), expected, "{}", key);
            }
            // All other lines are there, byte for byte and in order; only the line feed that a
            // last line lacked may have come.
            let mut expected = others(before.as_bytes(), &keys);
            let mut got = others(&after, &keys);
            for lines in [&mut expected, &mut got] {
                if let Some(last) = lines.last_mut() {
                    last.truncate(last.trim_ascii_end().len());
                }
            }
            prop_assert_eq!(got, expected);
            // A second `set` changes nothing.
            prop_assert_eq!(&set(&after, "pgbouncer", &entries).unwrap(), &after);
        }
    }
}
