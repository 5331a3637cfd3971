//! Makes text from outside safe for the log.
//!
//! Rule: text from a client, a tenant or a document is logged through [`shown`], which cuts it at
//! [`LONGEST`] bytes, and [`escaped`] escapes the control characters of every line that leaves the
//! program: [`super::sink`] calls it for our own lines, [`crate::postgres::log`] for those of
//! Postgres. So a request cannot fill the disk that keeps the log, and no text can move the cursor
//! of a terminal or overwrite earlier output.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// Limit in bytes for one text from outside in one line of the log.
pub(crate) const LONGEST: usize = 256;

/// A text, cut at a number of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    start: &'a str,
    /// Length of the whole text in bytes, if it was cut.
    cut: Option<usize>,
}

/// The text, or its first [`LONGEST`] bytes and its full length.
pub(crate) fn shown(text: &str) -> Shown<'_> {
    shown_to(text, LONGEST)
}

/// As [`shown`], with another limit.
pub(crate) fn shown_to(text: &str, longest: usize) -> Shown<'_> {
    if text.len() <= longest {
        return Shown { start: text, cut: None };
    }
    let start = text.get(..text.floor_char_boundary(longest)).unwrap_or_default();
    Shown { start, cut: Some(text.len()) }
}

impl Shown<'_> {
    /// In quotes, with line ends and quotes escaped.
    pub(crate) fn quoted(self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            write!(f, "{:?}", self.start)?;
            self.rest(f)
        })
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut.map_or(Ok(()), |bytes| write!(f, "... ({bytes} bytes)"))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.start.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        self.rest(f)
    }
}

/// Makes characters visible that a terminal or a browser would obey: control characters but tab and
/// line feed, and those that change the direction of text around them or have no width.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    with_escapes(text, |c, visible| visible.extend(c.escape_default()))
}

/// The same for a document in JSON, where these characters can be in strings only: it has the escapes
/// of JSON, so that a reader of JSON gets the same strings.
pub(crate) fn visible_json(document: &str) -> Cow<'_, str> {
    with_escapes(document, |c, visible| {
        // All of them have four digits at most. Writing to a string cannot fail.
        let _ = write!(visible, "\\u{:04x}", u32::from(c));
    })
}

fn with_escapes(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let is_bad = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(
                c,
                '\u{61c}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
            )
    };
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            escape(c, &mut visible);
        } else {
            visible.push(c);
        }
    }
    Cow::Owned(visible)
}

/// A message of the log with a tab before each further line. Postgres has put it before those of its
/// texts, but not before those of names in `log_line_prefix`: such a line would look like a message of
/// its own.
pub(crate) fn continued(message: &str) -> Cow<'_, str> {
    let mut further = message.split('\n').skip(1);
    if further.all(|line| line.is_empty() || line.starts_with('\t')) {
        return Cow::Borrowed(message);
    }
    let mut continued = String::with_capacity(message.len() + 16);
    for (at, line) in message.split('\n').enumerate() {
        let begin = match at {
            0 => "",
            _ if line.is_empty() || line.starts_with('\t') => "\n",
            _ => "\n\t",
        };
        continued.push_str(begin);
        continued.push_str(line);
    }
    Cow::Owned(continued)
}

/// Escapes all control characters of a line except tab, and except line feeds if they are allowed.
/// ASCII and C1 control characters, which some terminals obey too, become `\x1b`, `\r`, `\u{9b}`;
/// bytes that are not UTF-8 are kept.
pub(crate) fn escaped(line: &[u8], may_have_line_feeds: bool) -> Cow<'_, [u8]> {
    let is_bad = |at: usize| -> Option<usize> {
        match line.get(at)? {
            b'\t' => None,
            b'\n' if may_have_line_feeds => None,
            0..0x20 | 0x7f => Some(1),
            0xc2 => matches!(line.get(at + 1), Some(0x80..=0x9f)).then_some(2),
            _ => None,
        }
    };
    let Some(first) = (0..line.len()).find(|at| is_bad(*at).is_some()) else {
        return Cow::Borrowed(line);
    };
    let mut out = Vec::with_capacity(line.len() + 16);
    out.extend_from_slice(line.get(..first).unwrap_or_default());
    let mut at = first;
    while let Some(byte) = line.get(at) {
        match (is_bad(at), byte) {
            (Some(1), b'\r') => out.extend_from_slice(b"\\r"),
            (Some(1), b'\n') => out.extend_from_slice(b"\\n"),
            (Some(1), byte) => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            (Some(_), _) => {
                let second = line.get(at + 1).copied().unwrap_or_default();
                out.extend_from_slice(format!("\\u{{{second:x}}}").as_bytes());
                at += 1;
            }
            (None, byte) => out.push(*byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown("short").to_string(), "short");
        assert!(shown(&"x".repeat(LONGEST)).cut.is_none());
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(shown(&long).to_string(), format!("{}... (257 bytes)", "x".repeat(LONGEST)));
        assert_eq!(shown_to("aüb", 2).to_string(), "a... (4 bytes)");
        assert_eq!(shown_to("a\"\nb", 3).quoted().to_string(), "\"a\\\"\\n\"... (4 bytes)");
        assert_eq!(shown("a\r\u{1b}[31mü").to_string(), "a\\r\\u{1b}[31mü");
    }

    #[test]
    fn what_changes_the_text_around_it_is_visible() {
        assert!(matches!(visible("a\tb\nü"), Cow::Borrowed(_)));
        let tricky = "a\r\u{1b}[2J\u{202e}b\u{2066}\u{200b}\u{85}";
        assert_eq!(visible(tricky), "a\\r\\u{1b}[2J\\u{202e}b\\u{2066}\\u{200b}\\u{85}");
    }

    #[test]
    fn further_lines_are_indented() {
        assert_eq!(continued("a\nb\n\tc\n\nd"), "a\n\tb\n\tc\n\n\td");
        for kept in ["", "a", "a\n\tb\n", "\n"] {
            assert!(matches!(continued(kept), Cow::Borrowed(_)), "{kept:?}");
        }
    }

    #[test]
    fn a_document_has_the_same_strings() {
        let tricky = "a\r\u{1b}\u{7f}\u{9b}2J\u{202e}b\u{2066}\u{feff}\u{85}\n\u{fc}\"\\";
        let document = serde_json::json!({ tricky: tricky }).to_string();
        let shown = visible_json(&document);
        assert_eq!(visible(&shown), shown, "nothing to obey is left");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, serde_json::json!({ tricky: tricky }));
        assert!(matches!(visible_json("{\"a\": 1}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn control_characters_are_escaped() {
        for (line, expected) in [
            (b"plain \xc3\xbc\ttab".as_slice(), b"plain \xc3\xbc\ttab".as_slice()),
            (b"\x1b[31mred\r\x00\x7f", b"\\x1b[31mred\\r\\x00\\x7f"),
            (b"a\nb", b"a\\nb"),
            (b"\xc2\x9b2J\xc2\xa0", b"\\u{9b}2J\xc2\xa0"),
            (b"\xff\x9b\xc2", b"\xff\x9b\xc2"),
        ] {
            assert_eq!(&*escaped(line, false), expected, "{line:?}");
        }
        assert_eq!(&*escaped(b"a\n\rb\n", true), b"a\n\\rb\n");
        assert!(matches!(escaped(b"a\tb\n", true), Cow::Borrowed(_)));
    }
}
