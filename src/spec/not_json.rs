//! Why a text is not JSON, in words that lead to the cause. The parser's text often does not: for a
//! byte order mark it says `expected value at line 1 column 1`.

/// A sentence about the text that the parser refused at `line` and `column`, both from 1 as the
/// parser counts. No part of the text is repeated.
pub(super) fn explain(text: &[u8], line: usize, column: usize) -> Option<&'static str> {
    encoding(text)
        .or_else(|| at_place(text, offset(text, line, column)))
        .or_else(|| not_an_object(text))
}

fn encoding(text: &[u8]) -> Option<&'static str> {
    if text.trim_ascii().is_empty() {
        return Some("the document is empty");
    }
    if text.starts_with(b"\xef\xbb\xbf") {
        return Some("it begins with a byte order mark (BOM): save it as UTF-8 without one");
    }
    let utf16 = matches!(text, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
        || matches!(text, [0, first, 0, _, ..] | [first, 0, _, 0, ..] if *first != 0);
    if utf16 {
        return Some("it is UTF-16, and JSON is UTF-8: save it as UTF-8");
    }
    if text.contains(&0) {
        return Some("it holds a NUL byte: the file is damaged, or not JSON");
    }
    if std::str::from_utf8(text).is_err() {
        return Some("it is not UTF-8: save it as UTF-8");
    }
    None
}

/// Every document is an object.
pub(super) fn not_an_object(text: &[u8]) -> Option<&'static str> {
    let first = text.trim_ascii_start().first();
    (first != Some(&b'{')).then_some("it does not begin with `{`: a JSON object is needed")
}

fn at_place(text: &[u8], at: usize) -> Option<&'static str> {
    let (before, after) = text.split_at_checked(at)?;
    // The parser names the byte that it refuses, or the last one that it took.
    let last = before.len().saturating_sub(1);
    let from_last = text.get(last..).unwrap_or_default();
    let is_comment =
        |rest: &[u8]| rest.starts_with(b"//") || rest.starts_with(b"/*") || rest.starts_with(b"#");
    if is_comment(after) || is_comment(from_last) {
        return Some("JSON has no comments: take them out");
    }
    for rest in [after, from_last] {
        let closes = matches!(rest.first(), Some(b'}' | b']'));
        let start = text.len().saturating_sub(rest.len());
        let preceding = text.get(..start).unwrap_or_default().trim_ascii_end();
        if closes && preceding.ends_with(b",") {
            return Some("there is a comma before the closing bracket: take it out");
        }
        if rest.first() == Some(&b'\'') {
            return Some("JSON has strings and names in double quotes");
        }
    }
    None
}

/// The byte at a place; the end of the text if the place is behind it.
fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let mut start = 0;
    for _ in 1..line {
        let rest = text.get(start..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else { return text.len() };
        start = start.saturating_add(end).saturating_add(1);
    }
    start.saturating_add(column.saturating_sub(1)).min(text.len())
}
