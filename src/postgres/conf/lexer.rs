//! Configuration files as Postgres reads them, line by line.
//!
//! The rules are those of the server's own scanner. So an error that the server would report is
//! found before a file is written, and a line that the server accepts is never refused here; a test
//! compares the two on every server. A line is `name [=] value [# comment]`. No value continues
//! past the end of a line, so lines can be checked one by one.

use thiserror::Error;

/// A line that Postgres would refuse. No text repeats the line, which may hold a password.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxError {
    /// The first token is not a name.
    #[error("it does not begin with the name of a setting")]
    NoName,
    /// The line has only a name.
    #[error("it has no value")]
    NoValue,
    /// A quote is not closed on its line.
    #[error("a quote is not closed")]
    OpenQuote,
    /// A character that an unquoted value may not begin with, or a name with a dot.
    #[error("the value must be in quotes")]
    NeedsQuotes,
    /// More tokens follow the value.
    #[error("something follows the value, which must be in quotes if it belongs to it")]
    TrailingText,
    /// Postgres uses zero-terminated strings.
    #[error("it holds a NUL byte")]
    Nul,
}

/// A syntax error and its position.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("line {line}{}: {error}", setting.as_ref().map(|s| format!(" (setting {s})")).unwrap_or_default())]
pub struct TextError {
    /// Line number, from 1.
    pub line: usize,
    /// The setting, if the line names one.
    pub setting: Option<String>,
    /// The error.
    pub error: SyntaxError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    QualifiedId,
    Quoted,
    /// Other words, and numbers.
    Plain,
    Equals,
}

/// Reads one line without its line feed. `None`: the line has only blanks and a comment.
pub fn read_line(line: &str) -> Result<Option<(&str, String)>, SyntaxError> {
    if line.contains('\0') {
        return Err(SyntaxError::Nul);
    }
    let Some((kind, name, rest)) = token(line)? else { return Ok(None) };
    if !matches!(kind, Kind::Id | Kind::QualifiedId) {
        return Err(SyntaxError::NoName);
    }
    let mut next = token(rest)?;
    if let Some((Kind::Equals, _, rest)) = next {
        next = token(rest)?;
    }
    let value = match next {
        None => return Err(SyntaxError::NoValue),
        Some((Kind::QualifiedId | Kind::Equals, ..)) => return Err(SyntaxError::NeedsQuotes),
        Some((Kind::Quoted, text, rest)) => (unquote(text), rest),
        Some((Kind::Id | Kind::Plain, text, rest)) => (text.to_owned(), rest),
    };
    match token(value.1) {
        Ok(None) => Ok(Some((name, value.0))),
        Ok(Some(_)) | Err(SyntaxError::NeedsQuotes) => Err(SyntaxError::TrailingText),
        Err(error) => Err(error),
    }
}

/// Reads a whole text. Returns all settings in order, or the first error.
pub fn read_text(text: &str) -> Result<Vec<(&str, String)>, TextError> {
    let mut settings = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        match read_line(line) {
            Ok(setting) => settings.extend(setting),
            Err(error) => {
                let setting = match token(line) {
                    Ok(Some((Kind::Id | Kind::QualifiedId, name, _))) => Some(name.to_owned()),
                    _ => None,
                };
                return Err(TextError { line: at.saturating_add(1), setting, error });
            }
        }
    }
    Ok(settings)
}

/// Whether a configuration file can name such a setting: a word, or two words joined by a dot.
pub fn is_guc_name(text: &str) -> bool {
    matches!(token(text), Ok(Some((Kind::Id | Kind::QualifiedId, name, _))) if name == text)
}

/// Whether a configuration file can hold the value without quotes.
pub fn is_plain_value(text: &str) -> bool {
    matches!(token(text), Ok(Some((Kind::Id | Kind::Plain, value, _))) if value == text)
}

/// The next token, its text and the remaining text; `None` at the end or at a comment. The longest
/// match wins, as in the server's scanner.
fn token(text: &str) -> Result<Option<(Kind, &str, &str)>, SyntaxError> {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    let bytes = text.as_bytes();
    let (kind, length) = match bytes.first() {
        None | Some(b'#') => return Ok(None),
        Some(b'=') => (Kind::Equals, 1),
        Some(b'\'') => (Kind::Quoted, quoted(bytes).ok_or(SyntaxError::OpenQuote)?),
        Some(first) if is_letter(*first) => word(bytes),
        Some(_) => match integer(bytes).max(real(bytes)) {
            0 => return Err(SyntaxError::NeedsQuotes),
            length => (Kind::Plain, length),
        },
    };
    // Tokens end at character boundaries: bytes beyond ASCII count as letters or are inside quotes.
    Ok(text.split_at_checked(length).map(|(token, rest)| (kind, token, rest)))
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

const fn is_word(byte: u8) -> bool {
    is_letter(byte) || byte.is_ascii_digit()
}

fn run(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().skip(from).take_while(|byte| belongs(**byte)).count()
}

/// `a`, `a.b`, or a longer word such as `a.b.c`, `a-b`, `a:b/c`.
fn word(bytes: &[u8]) -> (Kind, usize) {
    let length = run(bytes, 0, |byte| is_word(byte) || b"-._:/".contains(&byte));
    let token = bytes.get(..length).unwrap_or_default();
    let is_id = |part: &[u8]| {
        part.first().is_some_and(|first| is_letter(*first)) && part.iter().all(|b| is_word(*b))
    };
    let mut parts = token.split(|byte| *byte == b'.');
    let kind = match (parts.next(), parts.next(), parts.next()) {
        (Some(one), None, _) if is_id(one) => Kind::Id,
        (Some(one), Some(two), None) if is_id(one) && is_id(two) => Kind::QualifiedId,
        _ => Kind::Plain,
    };
    (kind, length)
}

/// Length of a literal with its quotes; `None` without a closing one.
fn quoted(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match (bytes.get(at)?, bytes.get(at.saturating_add(1))) {
            (b'\\', next) => {
                next?;
                at = at.saturating_add(2);
            }
            (b'\'', Some(b'\'')) => at = at.saturating_add(2),
            (b'\'', _) => return Some(at.saturating_add(1)),
            _ => at = at.saturating_add(1),
        }
    }
}

/// Length of `[+-]?(digits|0x hex digits)letters`; 0 if there is none.
fn integer(bytes: &[u8]) -> usize {
    let sign = run(bytes, 0, |byte| matches!(byte, b'+' | b'-')).min(1);
    let number = |from: usize, digit: fn(&u8) -> bool| match run(bytes, from, |b| digit(&b)) {
        0 => 0,
        digits => {
            let end = from.saturating_add(digits);
            end.saturating_add(run(bytes, end, |byte| byte.is_ascii_alphabetic()))
        }
    };
    let decimal = number(sign, u8::is_ascii_digit);
    match bytes.get(sign..) {
        Some([b'0', b'x', ..]) => {
            decimal.max(number(sign.saturating_add(2), u8::is_ascii_hexdigit))
        }
        _ => decimal,
    }
}

/// Length of `[+-]?digits?.digits?exponent?`; 0 if there is none.
fn real(bytes: &[u8]) -> usize {
    let digit = |byte: u8| byte.is_ascii_digit();
    let sign = run(bytes, 0, |byte| matches!(byte, b'+' | b'-')).min(1);
    let dot = sign.saturating_add(run(bytes, sign, digit));
    if bytes.get(dot) != Some(&b'.') {
        return 0;
    }
    let end = dot.saturating_add(1);
    let end = end.saturating_add(run(bytes, end, digit));
    if !matches!(bytes.get(end), Some(b'e' | b'E')) {
        return end;
    }
    let exponent = end.saturating_add(1);
    let exponent =
        exponent.saturating_add(run(bytes, exponent, |byte| matches!(byte, b'+' | b'-')).min(1));
    match run(bytes, exponent, digit) {
        0 => end,
        digits => exponent.saturating_add(digits),
    }
}

/// The value of a literal. Bytes that are not UTF-8, which only octal escapes can produce, are
/// replaced.
fn unquote(literal: &str) -> String {
    let inner = literal.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    let mut bytes = inner.unwrap_or_default().bytes().peekable();
    let mut value = Vec::new();
    while let Some(byte) = bytes.next() {
        let next = match byte {
            // A doubled quote.
            b'\'' => bytes.next(),
            b'\\' => match bytes.next() {
                Some(b'b') => Some(8),
                Some(b'f') => Some(12),
                Some(b'n') => Some(b'\n'),
                Some(b'r') => Some(b'\r'),
                Some(b't') => Some(b'\t'),
                Some(first @ b'0'..=b'7') => {
                    // One to three octal digits; only the low byte counts.
                    let mut octal = first & 7;
                    for _ in 0..2 {
                        let Some(digit) = bytes.next_if(|b| matches!(b, b'0'..=b'7')) else {
                            break;
                        };
                        octal = (octal << 3) | (digit & 7);
                    }
                    Some(octal)
                }
                other => other,
            },
            other => Some(other),
        };
        // The string of the server ends at the first zero.
        if next == Some(0) {
            break;
        }
        value.extend(next);
    }
    String::from_utf8(value).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_postgres_reads_them() {
        for (line, expected) in [
            ("a=1", Some(("a", "1"))),
            ("  a.b = 'x y' # z\r", Some(("a.b", "x y"))),
            ("a 1#z", Some(("a", "1"))),
            ("a\t=\tx-y.z:/1", Some(("a", "x-y.z:/1"))),
            ("a = -.5e-3", Some(("a", "-.5e-3"))),
            ("a = 0x1F", Some(("a", "0x1F"))),
            ("a = 128MB", Some(("a", "128MB"))),
            ("é = ü", Some(("é", "ü"))),
            (r"a = 'it''s \\ \101\n\q\''", Some(("a", "it's \\ A\nq'"))),
            (r"a = '\303\251'", Some(("a", "é"))),
            (r"a = 'b\0c\400d'", Some(("a", "b"))),
            ("a=''", Some(("a", ""))),
            ("include_if_exists = 'x'", Some(("include_if_exists", "x"))),
            ("# a='", None),
            (" \t\r", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, value)| (name, value.to_owned()));
            assert_eq!(read_line(line), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        use SyntaxError::{NeedsQuotes, NoName, NoValue, Nul, OpenQuote, TrailingText};
        for (line, error) in [
            ("=1", NoName),
            ("a.b.c = 1", NoName),
            ("a-b = 1", NoName),
            ("1 = 1", NoName),
            ("'a' = 1", NoName),
            ("a", NoValue),
            ("a = # b", NoValue),
            ("a = 'open", OpenQuote),
            (r"a = 'open\", OpenQuote),
            (r"a = 'open\'", OpenQuote),
            ("a = 'open''", OpenQuote),
            ("a = %m", NeedsQuotes),
            ("a = b.c", NeedsQuotes),
            ("a = = 1", NeedsQuotes),
            ("a = b, c", TrailingText),
            ("a = 1.5MB", TrailingText),
            ("a = 'b' c", TrailingText),
            ("a = 'b''", OpenQuote),
            ("a = 1\0", Nul),
            ("# \0", Nul),
        ] {
            assert_eq!(read_line(line), Err(error), "{line:?}");
        }
    }

    #[test]
    fn an_error_in_a_text_is_found() {
        let error = read_text("a=1\r\n\n b.c = 'planted\nd=1").unwrap_err();
        assert_eq!(error.to_string(), "line 3 (setting b.c): a quote is not closed");
        let error = read_text("%\n").unwrap_err();
        assert_eq!(error.to_string(), "line 1: the value must be in quotes");
        let settings = read_text("a=1\n#x\nb 2").unwrap();
        assert_eq!(settings, [("a", "1".to_owned()), ("b", "2".to_owned())]);
        assert_eq!(read_text("").unwrap(), []);
    }

    #[test]
    fn names_and_plain_values() {
        for name in ["a", "_a1", "neon.x", "é.ü"] {
            assert!(is_guc_name(name), "{name}");
        }
        for name in
            ["", " a", "a ", "a=", "a.b.c", "1a", "a$", "a.", ".a", "a-b", "'a'", "#", "a\nb"]
        {
            assert!(!is_guc_name(name), "{name:?}");
        }
        for value in ["on", "1", "-1", "1.5", "128MB", "a-b", "/tmp", "a.b.c"] {
            assert_eq!(is_plain_value(value), value != "/tmp", "{value}");
        }
        for value in ["", "a b", "a.b", "'a'", "a'", "1;", "1#", " 1", "1\n"] {
            assert!(!is_plain_value(value), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = read_text(&text);
            let _ = (is_guc_name(&text), is_plain_value(&text));
        }

        #[test]
        fn nor_does_a_text_of_the_right_characters(text in "[a.'\\\\=#0xe+\\- é\n]{0,12}") {
            let _ = read_text(&text);
        }
    }
}
