//! Properties of what is sent to Postgres and read from it, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::options::option;
use super::quote::{dollar_quoted, identifier, literal, naming};
use super::wire::{Wire, mark, unmark};
use crate::fuzzing::{Server, lines, pieces, seeded};

/// Names and literals are read back, and nothing ends them early.
pub(crate) fn text(data: &[u8]) {
    let Some(([role], text)) = lines(data) else { return };
    if text.contains('\0') || role.contains('\0') {
        return;
    }
    assert_eq!(sql_pieces(&literal(text)), Some(vec![Piece::String(text.to_owned())]));
    assert_eq!(sql_pieces(&identifier(text)), Some(vec![Piece::Name(text.to_owned())]));
    let quoted = dollar_quoted(text);
    let tag = format!("${}$", quoted.outer_tag.strip_suffix('x').unwrap());
    let inner = quoted.literal.strip_prefix(&tag).unwrap();
    assert_eq!(inner.find(&tag), Some(text.len()));
    assert!(!quoted.literal.contains(&format!("${}$", quoted.outer_tag)));
    let sql = naming("ALTER ROLE %I SET x TO 1", &[role]);
    if role.is_ascii() {
        let pieces = sql_pieces(&sql).expect("all quotes are closed");
        assert_eq!(pieces[2], Piece::Name(role.to_owned()));
        assert_eq!(pieces.len(), 7);
    } else {
        assert!(sql.is_ascii());
    }
    let options = format!("{} {}", option(("a", text)), option(("b", "c")));
    assert_eq!(words(&options), ["-c", &format!("a={text}"), "-c", "b=c"]);
}

/// Start-up options as the server splits them.
fn words(options: &str) -> Vec<String> {
    let (mut words, mut word, mut chars) = (Vec::new(), None::<String>, options.chars());
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A part of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Word(String),
    /// Between double quotes.
    Name(String),
    String(String),
    Mark(char),
    Comment,
}

/// A statement as Postgres takes it apart, with standard strings; none if a quote is not closed.
pub(crate) fn sql_pieces(sql: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let escapes = rest.starts_with("E'") || rest.starts_with("e'");
        let after = &rest[first.len_utf8()..];
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        rest = if escapes || first == '\'' {
            let begin = if escapes { &after[1..] } else { after };
            let (text, after) = until(begin, '\'', escapes)?;
            pieces.push(Piece::String(text));
            after
        } else if first == '"' {
            let (text, after) = until(after, '"', false)?;
            pieces.push(Piece::Name(text));
            after
        } else if rest.starts_with("--") || rest.starts_with("/*") {
            pieces.push(Piece::Comment);
            after
        } else if is_word(first) && first != '$' {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            pieces.push(Piece::Word(rest[..end].to_owned()));
            &rest[end..]
        } else {
            if !first.is_ascii_whitespace() {
                pieces.push(Piece::Mark(first));
            }
            after
        };
    }
    Some(pieces)
}

/// The text up to the closing quote, and what follows it.
fn until(text: &str, quote: char, escapes: bool) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if chars.next_if(|(_, c)| *c == quote).is_none() {
                return Some((value, &text[at + 1..]));
            }
            value.push(quote);
        } else if c == '\\' && escapes {
            value.push(chars.next()?.1);
        } else {
            value.push(c);
        }
    }
    None
}

/// Bytes of a server: the library reads the same, in whatever pieces they come, and each text of a
/// row is UTF-8.
pub(crate) fn pg_messages(data: &[u8]) {
    let (seed, data) = seeded(data);
    assert_eq!(unmark(&mark(data)[1..]).as_deref(), Some(data));
    // The library refuses what follows an impossible length.
    let data = &data[..whole_messages(data)];
    let whole = through(vec![data]);
    assert_eq!(through(pieces(data, 30, seed)), whole);
    assert_eq!(through(data.chunks(1).collect()), whole);
    assert!(whole.len() <= data.len() * 2 + 16);
    // A second time there is nothing to mark.
    assert_eq!(through(vec![&whole]), whole);
    if data.is_empty() || std::str::from_utf8(data).is_ok() {
        assert_eq!(whole, data);
    }
}

fn whole_messages(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(head) = data.get(at..at + 5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=1 << 20).contains(&length) {
            return at;
        }
        at += length + 1;
    }
    at.min(data.len())
}

fn through(pieces: Vec<&[u8]>) -> Vec<u8> {
    let read = async {
        let mut wire = Wire::new(Server::sending(pieces), None);
        let parameters = b"client_encoding\0UTF8\0\0";
        let length = u32::try_from(parameters.len() + 8).unwrap().to_be_bytes();
        let start = [&length[..], &[0, 3, 0, 0], parameters].concat();
        wire.write_all(&start).await.unwrap();
        let mut read = Vec::new();
        wire.read_to_end(&mut read).await.unwrap();
        read
    };
    read.now_or_never().expect("it never waits")
}
