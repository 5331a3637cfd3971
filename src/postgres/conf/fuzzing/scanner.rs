//! A second reader of configuration files, for comparison with the first: the patterns of the
//! server's own scanner, matched as flex does, and the server's loop over the tokens.
//!
//! It is slow and does nothing but follow the server's rules.

use std::collections::BTreeSet;

/// A pattern for bytes.
enum Pattern {
    Byte(fn(u8) -> bool),
    /// One after the other.
    All(Vec<Pattern>),
    /// One of them.
    Any(Vec<Pattern>),
    /// As often as possible, or not at all.
    Many(Box<Pattern>),
}

use Pattern::{All, Any, Byte, Many};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    EndOfLine,
    Skipped,
    Id,
    QualifiedId,
    String,
    UnquotedString,
    Integer,
    Real,
    Equals,
    Other,
}

fn many(pattern: Pattern) -> Pattern {
    Many(Box::new(pattern))
}

fn some(pattern: fn() -> Pattern) -> Pattern {
    All(vec![pattern(), many(pattern())])
}

fn perhaps(pattern: Pattern) -> Pattern {
    Any(vec![All(Vec::new()), pattern])
}

fn sign() -> Pattern {
    perhaps(Byte(|b| matches!(b, b'-' | b'+')))
}

fn digit() -> Pattern {
    Byte(|b| b.is_ascii_digit())
}

fn hex_digit() -> Pattern {
    Byte(|b| b.is_ascii_hexdigit())
}

fn letter() -> Pattern {
    Byte(|b| b.is_ascii_alphabetic() || b == b'_' || b >= 0x80)
}

fn letter_or_digit() -> Pattern {
    Byte(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80)
}

fn id() -> Pattern {
    All(vec![letter(), many(letter_or_digit())])
}

/// The rules in the order of the scanner.
fn rules() -> Vec<(Pattern, Token)> {
    let dot = || Byte(|b| b == b'.');
    let exponent = All(vec![Byte(|b| matches!(b, b'e' | b'E')), sign(), some(digit)]);
    let hexadecimal = All(vec![Byte(|b| b == b'0'), Byte(|b| b == b'x'), some(hex_digit)]);
    let in_string = Any(vec![
        Byte(|b| !matches!(b, b'\'' | b'\\' | b'\n')),
        All(vec![Byte(|b| b == b'\\'), Byte(|b| b != b'\n')]),
        All(vec![Byte(|b| b == b'\''), Byte(|b| b == b'\'')]),
    ]);
    let quote = || Byte(|b| b == b'\'');
    let in_word = Any(vec![letter_or_digit(), Byte(|b| b"-._:/".contains(&b))]);
    vec![
        (Byte(|b| b == b'\n'), Token::EndOfLine),
        (some(|| Byte(|b| matches!(b, b' ' | b'\t' | b'\r'))), Token::Skipped),
        (All(vec![Byte(|b| b == b'#'), many(Byte(|b| b != b'\n'))]), Token::Skipped),
        (id(), Token::Id),
        (All(vec![id(), dot(), id()]), Token::QualifiedId),
        (All(vec![quote(), many(in_string), quote()]), Token::String),
        (All(vec![letter(), many(in_word)]), Token::UnquotedString),
        (
            All(vec![
                sign(),
                Any(vec![some(digit), hexadecimal]),
                many(Byte(|b| b.is_ascii_alphabetic())),
            ]),
            Token::Integer,
        ),
        (All(vec![sign(), many(digit()), dot(), many(digit()), perhaps(exponent)]), Token::Real),
        (Byte(|b| b == b'='), Token::Equals),
        (Byte(|_| true), Token::Other),
    ]
}

/// Where matches that begin at these places can end.
fn ends(pattern: &Pattern, text: &[u8], starts: BTreeSet<usize>) -> BTreeSet<usize> {
    match pattern {
        Byte(fits) => {
            let next = starts.into_iter().filter(|at| text.get(*at).is_some_and(|b| fits(*b)));
            next.map(|at| at + 1).collect()
        }
        All(parts) => parts.iter().fold(starts, |starts, part| ends(part, text, starts)),
        Any(parts) => parts.iter().flat_map(|part| ends(part, text, starts.clone())).collect(),
        Many(part) => {
            let (mut all, mut newest) = (starts.clone(), starts);
            while !newest.is_empty() {
                newest = ends(part, text, newest).difference(&all).copied().collect();
                all.extend(&newest);
            }
            all
        }
    }
}

/// The settings, or the number of the first line that the server refuses.
pub(super) fn read(text: &[u8]) -> Result<Vec<(&str, String)>, usize> {
    let rules = rules();
    let mut at = 0;
    // The next token that counts; none at the end.
    let mut next = || loop {
        let starts = BTreeSet::from([at]);
        let longest = rules.iter().rev().filter_map(|(pattern, token)| {
            Some((*ends(pattern, text, starts.clone()).last()?, *token))
        });
        // Of two that are as long, the first rule counts, which is the last here.
        let (end, token) = longest.max_by_key(|(end, _)| *end)?;
        let bytes = text.get(at..end).unwrap_or_default();
        at = end;
        if token != Token::Skipped {
            return Some((token, bytes));
        }
    };
    let (mut settings, mut line) = (Vec::new(), 1);
    while let Some((token, name)) = next() {
        if token == Token::EndOfLine {
            line += 1;
            continue;
        }
        if !matches!(token, Token::Id | Token::QualifiedId) {
            return Err(line);
        }
        let mut value = next();
        if let Some((Token::Equals, _)) = value {
            value = next();
        }
        let value = match value {
            Some((Token::String, literal)) => unescaped(literal),
            Some((Token::Id | Token::UnquotedString | Token::Integer | Token::Real, word)) => {
                word.to_vec()
            }
            _ => return Err(line),
        };
        let name = std::str::from_utf8(name).map_err(|_| line)?;
        settings.push((name, String::from_utf8_lossy(&value).into_owned()));
        match next() {
            None => break,
            Some((Token::EndOfLine, _)) => line += 1,
            Some(_) => return Err(line),
        }
    }
    Ok(settings)
}

/// The value of a literal with its quotes.
fn unescaped(literal: &[u8]) -> Vec<u8> {
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    let byte = |at: usize| inner.get(at).copied();
    let (mut value, mut at) = (Vec::new(), 0);
    while let Some(first) = byte(at) {
        at += 1;
        match (first, byte(at)) {
            (b'\'', Some(b'\'')) => {
                value.push(b'\'');
                at += 1;
            }
            (b'\\', Some(b'0'..=b'7')) => {
                let octal = inner.iter().skip(at).take(3);
                let digits = octal.take_while(|b| matches!(b, b'0'..=b'7')).copied();
                let digits: Vec<u8> = digits.collect();
                let number = digits.iter().fold(0_u32, |all, b| all * 8 + u32::from(*b - b'0'));
                value.push(u8::try_from(number & 0xff).unwrap_or_default());
                at += digits.len();
            }
            (b'\\', Some(escape)) => {
                value.push(match escape {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                });
                at += 1;
            }
            (other, _) => value.push(other),
        }
    }
    // The server's strings end at a zero.
    value.truncate(value.iter().position(|b| *b == 0).unwrap_or(value.len()));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readers_agree() {
        for text in
            ["a=1\nb 'x''\\101'", "a.b = c-d # e\n\n", "a", "a = b.c", "x = 0x1F", "x=1.5kB"]
        {
            let ours = crate::postgres::conf::lexer::read_text(text);
            assert_eq!(ours.map_err(|error| error.line), read(text.as_bytes()), "{text}");
        }
    }
}
