//! The bytes between the client library and the server: names in any encoding, in both directions.
//!
//! Catalogs that all databases share hold each name in the bytes of the database where it was
//! made, and Postgres truncates names after 63 bytes, even within a character. A spec cannot name
//! such an object, and its name must not break anything. The rule for each session of the program:
//!
//! 1. The client encoding is `SQL_ASCII`, so the server converts nothing: a name is compared as
//!    bytes in every database, and no answer is an error because its bytes belong to another
//!    encoding. The library insists on `UTF8`, so [`Wire`] writes it into the start-up packet.
//! 2. A text of an answer that is not UTF-8 becomes [`MARK`] and its bytes as hexadecimal digits.
//!    Otherwise the library would refuse the column. No text of Postgres contains a byte 0, so a
//!    marked text cannot be mistaken for another one. [`Row`](super::row::Row) decodes it, and is
//!    the only way to read an answer.
//! 3. Statements in databases of users name roles by [`naming`](super::quote::naming): a
//!    server takes no text whose bytes are wrong in the encoding of the database.
//!
//! Columns in the binary format are left alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Prefix of the digits of a text that is not UTF-8.
pub(super) const MARK: char = '\0';

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;
/// Version 3.0.
const PROTOCOL: u32 = 3 << 16;
/// Type and length.
const HEAD: usize = 5;
/// Length of the shortest message, without its type.
const SHORTEST: usize = 4;

/// A stream to the server, for the client library.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// Replaces the name of the database in the start-up packet.
    database: Option<Arc<[u8]>>,
    /// The start-up packet has been sent. Bytes before it are not messages.
    started: bool,
    /// Bytes for the server.
    outgoing: BytesMut,
    chunk: Box<[u8]>,
    /// An incomplete message.
    incoming: BytesMut,
    /// Whole messages for the library.
    ready: BytesMut,
    /// Which columns of the next rows are text.
    texts: Vec<bool>,
    /// The rows of this answer are in the binary format, whatever their description says.
    binary: bool,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, database: Option<Arc<[u8]>>) -> Self {
        Self {
            stream,
            database,
            started: false,
            outgoing: BytesMut::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            incoming: BytesMut::new(),
            ready: BytesMut::new(),
            texts: Vec::new(),
            binary: false,
        }
    }

    /// Moves whole messages to the library.
    fn pass_on(&mut self) {
        while let Some(length) = message_length(&self.incoming) {
            if self.incoming.len() < length {
                break;
            }
            let message = self.incoming.split_to(length);
            let kind = message.first().copied();
            let body = message.get(HEAD..).unwrap_or_default();
            match kind {
                // A statement with parameters: the library asks for the binary format, which is
                // not yet in the description of a statement.
                Some(b'1' | b'2') => {
                    self.binary = true;
                    self.texts.clear();
                }
                Some(b'T') if !self.binary => self.texts = texts(body).unwrap_or_default(),
                Some(b'Z') => {
                    self.binary = false;
                    self.texts.clear();
                }
                Some(b'D') => {
                    if let Some(row) = marked(body, &self.texts) {
                        self.ready.extend_from_slice(&row);
                        continue;
                    }
                }
                _ => {}
            }
            self.ready.unsplit(message);
        }
    }
}

/// Length of the message with its head; `None` if the head is incomplete. An invalid length is
/// passed on unchanged, so that the library refuses it.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let (_, mut length) = bytes.get(..HEAD)?.split_first()?;
    let length = usize::try_from(length.try_get_u32().ok()?).ok()?;
    Some(if length < SHORTEST { bytes.len() } else { length.saturating_add(1) })
}

/// For each column of a row description: whether it is text.
fn texts(mut body: &[u8]) -> Option<Vec<bool>> {
    let columns = body.try_get_u16().ok()?;
    let mut texts = Vec::with_capacity(columns.into());
    for _ in 0..columns {
        let (_name, rest) = until_zero(body)?;
        // Table, column, type, size, modifier.
        body = rest.get(16..)?;
        texts.push(body.try_get_u16().ok()? == 0);
    }
    Some(texts)
}

/// The message of the row with its texts marked; `None` if all texts are UTF-8.
fn marked(body: &[u8], texts: &[bool]) -> Option<BytesMut> {
    let foreign = |at: usize, cell: &[u8]| {
        texts.get(at).copied().unwrap_or_default() && std::str::from_utf8(cell).is_err()
    };
    let cells = cells(body)?;
    let mut any = cells.iter().enumerate();
    if !any.any(|(at, cell)| cell.is_some_and(|cell| foreign(at, cell))) {
        return None;
    }
    let mut row = BytesMut::new();
    row.put_u16(u16::try_from(cells.len()).ok()?);
    for (at, cell) in cells.into_iter().enumerate() {
        match cell {
            None => row.put_i32(-1),
            Some(cell) if foreign(at, cell) => put_cell(&mut row, mark(cell).as_bytes())?,
            Some(cell) => put_cell(&mut row, cell)?,
        }
    }
    let mut message = BytesMut::new();
    message.put_u8(b'D');
    message.put_u32(u32::try_from(row.len()).ok()?.checked_add(4)?);
    message.extend_from_slice(&row);
    Some(message)
}

fn put_cell(row: &mut BytesMut, cell: &[u8]) -> Option<()> {
    row.put_i32(i32::try_from(cell.len()).ok()?);
    row.extend_from_slice(cell);
    Some(())
}

fn cells(mut body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let columns = body.try_get_u16().ok()?;
    let mut cells = Vec::with_capacity(columns.into());
    for _ in 0..columns {
        // -1 is null.
        let length = usize::try_from(body.try_get_i32().ok()?).ok();
        cells.push(match length {
            Some(length) => {
                let (cell, rest) = body.split_at_checked(length)?;
                body = rest;
                Some(cell)
            }
            None => None,
        });
    }
    Some(cells)
}

fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(0, bytes)?;
    let (text, rest) = bytes.split_at_checked(at)?;
    Some((text, rest.get(1..)?))
}

/// Marks a text that is not UTF-8, so that the result is UTF-8.
pub(super) fn mark(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from(MARK);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of a marked text.
pub(super) fn unmark(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

/// Changes the start-up packet at the front of what the library sends. Returns it with its old
/// length; `None` for requests of another kind.
fn start_up(buf: &[u8], database: Option<&[u8]>) -> io::Result<Option<(usize, BytesMut)>> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "unknown form of start-up packet");
    let mut head = buf;
    let (Ok(length), Ok(version)) = (head.try_get_u32(), head.try_get_u32()) else {
        return Err(odd());
    };
    if version != PROTOCOL {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| odd())?;
    let mut rest = buf.get(8..length).ok_or_else(odd)?;
    let (mut parameters, mut encoded) = (BytesMut::new(), false);
    loop {
        let (name, after) = until_zero(rest).ok_or_else(odd)?;
        if name.is_empty() {
            break;
        }
        let (value, after) = until_zero(after).ok_or_else(odd)?;
        let value = match (name, database) {
            (b"client_encoding", _) => {
                encoded = true;
                b"SQL_ASCII".as_slice()
            }
            (b"database", Some(database)) => database,
            _ => value,
        };
        for text in [name, value] {
            parameters.extend_from_slice(text);
            parameters.put_u8(0);
        }
        rest = after;
    }
    if !encoded {
        return Err(odd());
    }
    parameters.put_u8(0);
    let mut packet = BytesMut::new();
    packet.put_u32(u32::try_from(parameters.len().saturating_add(8)).map_err(|_| odd())?);
    packet.put_u32(version);
    packet.extend_from_slice(&parameters);
    Ok(Some((length, packet)))
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.started {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        while this.ready.is_empty() {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                // The end of the stream. The library handles half a message.
                this.ready = std::mem::take(&mut this.incoming);
                break;
            }
            this.incoming.extend_from_slice(chunk.filled());
            this.pass_on();
        }
        let length = this.ready.len().min(buf.remaining());
        buf.put_slice(&this.ready.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.started
            && let Some((length, packet)) = start_up(buf, this.database.as_deref())?
        {
            (this.started, this.outgoing) = (true, packet);
            return Poll::Ready(Ok(length));
        }
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    /// A row description with columns of these formats.
    fn description(formats: &[u16]) -> Vec<u8> {
        let mut body = u16::try_from(formats.len()).unwrap().to_be_bytes().to_vec();
        for format in formats {
            body.extend([b"name\0", &[7; 16][..], &format.to_be_bytes()].concat());
        }
        message(b'T', &body)
    }

    fn row(cells: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = BytesMut::new();
        body.put_u16(u16::try_from(cells.len()).unwrap());
        for cell in cells {
            match cell {
                Some(cell) => put_cell(&mut body, cell).unwrap(),
                None => body.put_i32(-1),
            }
        }
        message(b'D', &body)
    }

    /// What the library reads if the server sends this, in pieces.
    async fn through(sent: &[u8], piece: usize) -> Vec<u8> {
        let (ours, mut server) = tokio::io::duplex(piece);
        let mut wire = Wire::new(ours, None);
        wire.started = true;
        let send = async {
            server.write_all(sent).await.unwrap();
            drop(server);
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(send, wire.read_to_end(&mut got));
        read.unwrap();
        got
    }

    #[tokio::test]
    async fn only_text_that_is_not_utf8_is_marked() {
        let good = row(&[Some("josé".as_bytes()), None, Some(b"")]);
        let bad = row(&[Some(b"jos\xe9"), None, Some(b"")]);
        let marked = row(&[Some(b"\x006a6f73e9"), None, Some(b"")]);
        let binary = row(&[Some(b"a"), Some(b"\xff"), Some(b"\xfe")]);
        let half = row(&[Some(b"a"), Some(b"\xff"), Some(b"\x00fe")]);
        let (done, idle, bound) =
            (message(b'C', b"SELECT\xff\0"), message(b'Z', b"I"), message(b'2', b""));
        let texts = description(&[0, 0, 0]);
        let mixed = description(&[0, 1, 0]);
        let sent = [&texts, &good, &bad, &done, &mixed, &binary, &idle, &bad, &bound, &bad]
            .map(|it| &**it);
        let want = [&texts, &good, &marked, &done, &mixed, &half, &idle, &bad, &bound, &bad]
            .map(|it| &**it);
        for piece in [1, 7, 1 << 16] {
            assert_eq!(through(&sent.concat(), piece).await, want.concat(), "{piece}");
        }
        // A statement with parameters, in both orders of the description.
        let parsed = message(b'1', b"");
        let sent = [&parsed, &bound, &texts, &bad, &idle, &texts, &bad, &idle].map(|it| &**it);
        let want = [&parsed, &bound, &texts, &bad, &idle, &texts, &marked, &idle].map(|it| &**it);
        assert_eq!(through(&sent.concat(), 64).await, want.concat());
        let sent = [&parsed, &texts, &bound, &bad, &idle].map(|it| &**it).concat();
        assert_eq!(through(&sent, 64).await, sent);
        assert_eq!(unmark("6a6f73e9").unwrap(), b"jos\xe9");
        assert_eq!((unmark("6"), unmark("zz")), (None, None));
    }

    #[tokio::test]
    async fn what_is_not_a_message_is_for_the_library_to_refuse() {
        for odd in [&b"D\0\0\0\x01rest"[..], b"D\0\0\0\x08\0\x09xx", b"T\0\0\0\x06\0\x09", b"E\0"] {
            assert_eq!(through(odd, 64).await, odd);
        }
    }

    #[tokio::test]
    async fn the_start_up_packet_says_that_nothing_is_converted() {
        let packet = |encoding: &[u8], database: &[u8]| {
            let parameters =
                [b"client_encoding\0", encoding, b"\0user\0u\0database\0", database, b"\0\0"];
            let body = [&PROTOCOL.to_be_bytes()[..], &parameters.concat()].concat();
            [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
        };
        for (database, name) in [(None, &b"d"[..]), (Some(Arc::from(&b"caf\xe9"[..])), b"caf\xe9")]
        {
            // The server accepts three bytes at a time.
            let (ours, mut server) = tokio::io::duplex(3);
            let mut wire = Wire::new(ours, database);
            let expected = [packet(b"SQL_ASCII", name), b"more".to_vec()].concat();
            let mut got = vec![0; expected.len()];
            let send = async {
                wire.write_all(&packet(b"UTF8", b"d")).await.unwrap();
                wire.write_all(b"more").await.unwrap();
                wire.flush().await.unwrap();
            };
            tokio::join!(send, async { server.read_exact(&mut got).await.unwrap() });
            assert_eq!(got, expected);
        }
        assert!(start_up(&packet(b"UTF8", b"d")[..20], None).is_err());
        // A request for TLS.
        assert!(start_up(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], None).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut wire = Wire::new((), None);
            for piece in bytes.chunks(7) {
                wire.incoming.extend_from_slice(piece);
                wire.pass_on();
            }
        }

        #[test]
        fn a_mark_is_undone(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(unmark(mark(&bytes).strip_prefix(MARK).unwrap()), Some(bytes));
        }
    }
}
