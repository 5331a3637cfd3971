//! `log_line_prefix` as a pattern: takes the lines of Postgres' log apart.
//!
//! Clients choose some of the texts in a prefix, such as `application_name`. So a field is what the
//! line seems to say; which bytes belong to which record does not depend on it.

use super::severity::Severity;

/// The value that Postgres has without a setting.
const DEFAULT: &str = "%m [%p] ";

/// Longest text of a field: longer than the 63 bytes of a name and than any address.
const LONGEST: usize = 256;

/// Steps after which a line is taken for one that does not fit.
const STEPS: usize = 2_000;

/// Longest word before `:  `; words of other languages than English are not known here.
const LONGEST_WORD: usize = 40;

/// What follows the word for the severity, or for the part of a message.
const AFTER_WORD: &[u8] = b":  ";

/// A part of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    /// The letter of an escape, and whether its value is padded with blanks.
    Escape(u8, bool),
    /// `%q`: processes without a session stop here.
    Stop,
}

/// A compiled `log_line_prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(Vec<Part>);

/// What a line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    /// Severity, if its word is known.
    pub(super) severity: Option<Severity>,
    /// Process id.
    pub(super) pid: Option<u32>,
    /// The other values of the prefix, in their order; none is empty.
    pub(super) fields: Vec<(&'static str, &'a [u8])>,
    /// What follows the prefix and a known severity.
    pub(super) rest: &'a [u8],
}

impl Default for Prefix {
    fn default() -> Self {
        Self::compile(DEFAULT)
    }
}

impl Prefix {
    /// Compiles a setting. Every text is a prefix: Postgres leaves out escapes that it does not
    /// know.
    pub(super) fn compile(setting: &str) -> Self {
        let (mut parts, mut literal) = (Vec::new(), Vec::new());
        let mut bytes = setting.bytes().peekable();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                literal.push(byte);
                continue;
            }
            let mut padded = false;
            while let Some(digit) = bytes.next_if(|byte| matches!(byte, b'-' | b'0'..=b'9')) {
                padded |= digit != b'-';
            }
            let Some(escape) = bytes.next() else { break };
            let part = match escape {
                b'%' => {
                    literal.push(b'%');
                    continue;
                }
                b'q' => Part::Stop,
                _ if name(escape).is_some() => Part::Escape(escape, padded),
                _ => continue,
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self(parts)
    }

    /// Takes a line apart; none if it does not begin with this prefix and a word for a severity or
    /// a part of a message, such as `LOG` or `STATEMENT`.
    pub(super) fn parse<'a>(&self, line: &'a [u8]) -> Option<Parsed<'a>> {
        let all = self.0.iter().collect::<Vec<_>>();
        let stop = all.iter().position(|part| **part == Part::Stop);
        let whole: Vec<_> = all.iter().copied().filter(|part| **part != Part::Stop).collect();
        let mut values = Vec::new();
        let rest = matched(&whole, line, &mut values, &mut { STEPS });
        let rest = rest.or_else(|| {
            values.clear();
            matched(all.get(..stop?)?, line, &mut values, &mut { STEPS })
        })?;
        let mut parsed = Parsed { rest, ..Parsed::default() };
        if let Some((word, after)) = word(rest)
            && let Some(severity) = Severity::named(word)
        {
            parsed.severity = Some(severity);
            parsed.rest = after;
        }
        for (escape, value) in values {
            let number = || std::str::from_utf8(value).ok()?.parse().ok();
            match name(escape) {
                Some("pid") => parsed.pid = number(),
                Some(name) if !value.is_empty() => parsed.fields.push((name, value)),
                _ => {}
            }
        }
        Some(parsed)
    }
}

/// A word and what follows its `:  `.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.windows(AFTER_WORD.len()).take(LONGEST_WORD + 1).position(|it| it == AFTER_WORD);
    let (word, after) = text.split_at_checked(end.filter(|end| *end > 0)?)?;
    let is_word = !word.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b':');
    is_word.then_some((word, after.get(AFTER_WORD.len()..)?))
}

/// Matches the parts at the begin of `line` and a word after them; the shortest values that do.
/// Returns what follows the parts.
fn matched<'a>(
    parts: &[&Part],
    line: &'a [u8],
    values: &mut Vec<(u8, &'a [u8])>,
    steps: &mut usize,
) -> Option<&'a [u8]> {
    *steps = steps.checked_sub(1)?;
    let Some((part, parts)) = parts.split_first() else {
        return word(line).map(|_| line);
    };
    let (escape, padded) = match part {
        Part::Literal(text) => return matched(parts, line.strip_prefix(&**text)?, values, steps),
        Part::Stop => return matched(parts, line, values, steps),
        Part::Escape(escape, padded) => (*escape, *padded),
    };
    let before = values.len();
    for length in 0..=line.len().min(LONGEST) {
        let (value, rest) = line.split_at_checked(length)?;
        let text = if padded { value.trim_ascii() } else { value };
        if !has_shape(escape, text) {
            continue;
        }
        values.push((escape, text));
        if let Some(rest) = matched(parts, rest, values, steps) {
            return Some(rest);
        }
        values.truncate(before);
        if *steps == 0 {
            return None;
        }
    }
    None
}

/// The name of the field for an escape of `log_line_prefix`.
const fn name(escape: u8) -> Option<&'static str> {
    Some(match escape {
        b'a' => "application_name",
        b'u' => "user",
        b'd' => "database",
        b'r' | b'h' => "client",
        b'L' => "server_address",
        b'b' => "backend_type",
        b'p' => "pid",
        b'P' => "leader_pid",
        b't' | b'm' | b'n' => "time",
        b'i' => "command_tag",
        b'e' => "sqlstate",
        b'c' => "session_id",
        b'l' => "session_line",
        b's' => "session_start",
        b'v' => "virtual_transaction_id",
        b'x' => "transaction_id",
        b'Q' => "query_id",
        _ => return None,
    })
}

/// Whether a text can be the value of an escape. Where Postgres leaves a value out, it is empty.
fn has_shape(escape: u8, text: &[u8]) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let parts_of = |separator: u8, is_part: fn(&u8) -> bool| {
        let mut parts = text.split(|byte| *byte == separator);
        let part =
            |it: Option<&[u8]>| it.is_some_and(|it| !it.is_empty() && it.iter().all(is_part));
        part(parts.next()) && part(parts.next()) && parts.next().is_none()
    };
    match escape {
        b'p' | b'l' | b'x' => digits(text),
        b'P' => text.is_empty() || digits(text),
        b'Q' => digits(text.strip_prefix(b"-").unwrap_or(text)),
        b'n' => parts_of(b'.', u8::is_ascii_digit),
        b'v' => text.is_empty() || parts_of(b'/', u8::is_ascii_digit),
        b'c' => parts_of(b'.', u8::is_ascii_hexdigit),
        b'e' => text.len() == 5 && text.iter().all(u8::is_ascii_alphanumeric),
        b't' | b'm' | b's' => is_time(text),
        _ => true,
    }
}

/// `2026-01-02 03:04:05`, perhaps with a fraction, and an abbreviated time zone.
fn is_time(text: &[u8]) -> bool {
    let mut words = text.split(|byte| *byte == b' ');
    let (date, time, zone) = (words.next(), words.next(), words.next());
    let made_of = |word: Option<&[u8]>, others: &[u8]| {
        word.is_some_and(|word| {
            let fits = |byte: &u8| byte.is_ascii_digit() || others.contains(byte);
            word.len() >= 8 && word.iter().all(fits)
        })
    };
    let is_zone = |zone: &[u8]| {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-:".contains(byte);
        !zone.is_empty() && zone.iter().all(fits)
    };
    made_of(date, b"-")
        && made_of(time, b":.")
        && zone.is_some_and(is_zone)
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(prefix: &str, line: &str) -> Option<String> {
        let prefix = Prefix::compile(prefix);
        let parsed = prefix.parse(line.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = parsed.fields.iter().map(|(name, value)| format!("{name}={}", text(value)));
        let fields = fields.collect::<Vec<_>>().join(" ");
        Some(format!("{:?} {:?} [{fields}] {}", parsed.severity, parsed.pid, text(parsed.rest)))
    }

    #[test]
    fn usual_prefixes() {
        for (prefix, line, expected) in [
            (
                "%m [%p] ",
                "2026-01-02 03:04:05.678 UTC [71] ERROR:  no: x",
                "Some(Error) Some(71) [time=2026-01-02 03:04:05.678 UTC] no: x",
            ),
            (
                "%t:%r:%u@%d:[%p]:",
                "2026-01-02 03:04:05 -03:10.0.0.1(5):ann@shop:[7]:LOG:  hi",
                "Some(Log) Some(7) [time=2026-01-02 03:04:05 -03 client=10.0.0.1(5) user=ann \
                 database=shop] hi",
            ),
            (
                "%m [%p] %q%u@%d/%a ",
                "2026-01-02 03:04:05.678 UTC [71] LOG:  hi",
                "Some(Log) Some(71) [time=2026-01-02 03:04:05.678 UTC] hi",
            ),
            (
                "%m [%p] %q%u@%d/%a ",
                "2026-01-02 03:04:05.678 UTC [71] ann@shop/my app FATAL:  bye",
                "Some(Fatal) Some(71) [time=2026-01-02 03:04:05.678 UTC user=ann database=shop \
                 application_name=my app] bye",
            ),
            (
                "%n %c %l %e %b %P%v %x 100%% ",
                "1700000000.123 65a.1f 3 22012 client backend 1/2 0 100% DEBUG2:  x",
                "Some(Debug(2)) None [time=1700000000.123 session_id=65a.1f session_line=3 \
                 sqlstate=22012 backend_type=client backend virtual_transaction_id=1/2 \
                 transaction_id=0] x",
            ),
            ("%-6p|%8l| ", "12    |       3| LOG:  x", "Some(Log) Some(12) [session_line=3] x"),
            ("", "WARNING:  x", "Some(Warning) None [] x"),
            ("%Z%", "NOTICE:  x", "Some(Notice) None [] x"),
        ] {
            assert_eq!(fields(prefix, line).as_deref(), Some(expected), "{prefix}");
        }
    }

    /// The word stays in the text where it is not a known severity.
    #[test]
    fn parts_of_messages_and_words_of_other_languages() {
        let line = |rest| format!("2026-01-02 03:04:05.678 UTC [71] {rest}");
        let expected =
            |rest| Some(format!("None Some(71) [time=2026-01-02 03:04:05.678 UTC] {rest}"));
        for rest in ["STATEMENT:  select 1", "DETAIL:  x", "FEHLER:  x", "ОШИБКА:  x"] {
            assert_eq!(fields(DEFAULT, &line(rest)), expected(rest));
        }
        for rest in ["", "x", "two words:  x", "a:b:  x", ":  x"] {
            assert_eq!(fields(DEFAULT, &line(rest)), None, "{rest}");
        }
        assert_eq!(fields(DEFAULT, "\tLOG:  x"), None);
        assert_eq!(fields(DEFAULT, "2026-01-02 03:04:05.678 UTC [x] LOG:  x"), None);
    }

    #[test]
    fn a_line_made_to_be_slow_is_given_up() {
        let prefix = Prefix::compile("%u%u%u%u%u%u@");
        assert_eq!(prefix.parse("a".repeat(10_000).as_bytes()), None);
    }

    proptest! {
        /// Whatever the prefix and the line are: the parts are parts of the line, in its order, and
        /// nothing but the prefix, the blanks of padding and the word is missing.
        #[test]
        fn nothing_is_lost(
            prefix in "[ a%pmquel\\[\\]@-]{0,12}",
            user in "[ -~]{0,20}",
            text in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let compiled = Prefix::compile(&prefix);
            let _ = compiled.parse(&text);
            let compiled = Prefix::compile("%p/%u/");
            let mut line = format!("7/{user}/LOG:  ").into_bytes();
            line.extend_from_slice(&text);
            let parsed = compiled.parse(&line).unwrap();
            let value = parsed.fields.first().map_or(&b""[..], |(_, value)| value);
            let again = [b"7/", value, b"/", b"LOG:  ", parsed.rest].concat();
            if parsed.severity == Some(Severity::Log) {
                prop_assert_eq!(again, line);
            }
        }
    }
}
