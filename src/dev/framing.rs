//! Server side of Postgres v3 messages over one TCP connection: reads frames, writes replies.
//!
//! Replies collect in a buffer until [`Peer::flush`], so that a turn is sent in one segment
//! (06 §11.1). Invariant: no input of a client makes the buffers grow without bound or panics; an
//! invalid frame is an `InvalidData` error, and the caller closes the connection.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest startup packet, as in Postgres.
const MAX_STARTUP: usize = 10_000;
/// Largest message after the startup packet; commands and tokens are far smaller.
const MAX_MESSAGE: usize = 256 * 1024;
/// Longest wait for a client that does not read its answers.
const WRITE_LIMIT: Duration = Duration::from_secs(600);
/// Longest wait for a client to close its side after ours.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// Codes in place of a protocol version.
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// SSLRequest and GSSENCRequest once each, with room for repeated requests.
const MAX_NEGOTIATIONS: usize = 4;

/// A message from the client: its type byte and its body.
#[derive(Debug)]
pub(super) struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// One connection as a command handler sees it: a target for replies.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
}

/// The error for input that violates the protocol.
pub(super) fn garbage(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Removes a NUL-terminated UTF-8 string from the front.
pub(super) fn take_cstr(body: &mut Bytes) -> io::Result<String> {
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(|| garbage("no NUL"))?;
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.to_vec()).map_err(|_| garbage("not UTF-8"))
}

impl Peer {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: BytesMut::with_capacity(8192), output: BytesMut::new() }
    }

    /// Reads until `wanted` bytes are buffered; `false` when the client closed at a boundary.
    async fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.input.len() < wanted {
            self.input.reserve(8192);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return match self.input.is_empty() {
                    true => Ok(false),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
        Ok(true)
    }

    /// Startup parameters in the order sent; `None` if the client closed the connection or cancels.
    pub(super) async fn read_startup(&mut self) -> io::Result<Option<Vec<(String, String)>>> {
        for _ in 0..MAX_NEGOTIATIONS {
            if !self.fill(8).await? {
                return Ok(None);
            }
            let length = self.input.get_u32() as usize;
            let code = self.input.get_u32();
            if !(8..=MAX_STARTUP).contains(&length) {
                return Err(garbage("startup packet of impossible length"));
            }
            let rest = length - 8;
            if rest > 0 && !self.fill(rest).await? {
                return Ok(None);
            }
            let mut body = self.input.split_to(rest).freeze();
            match code {
                SSL_REQUEST | GSSENC_REQUEST => {
                    self.output.put_u8(b'N');
                    self.flush().await?;
                }
                version if version >> 16 == 3 => {
                    let mut parameters = Vec::new();
                    while body.first().is_some_and(|byte| *byte != 0) {
                        parameters.push((take_cstr(&mut body)?, take_cstr(&mut body)?));
                    }
                    return Ok(Some(parameters));
                }
                // CancelRequest: no command can be cancelled.
                80_877_102 => return Ok(None),
                _ => return Err(garbage("unknown protocol version")),
            }
        }
        Err(garbage("endless negotiation"))
    }

    /// The next message; `None` when the client closed the connection between two messages.
    pub(super) async fn read_message(&mut self) -> io::Result<Option<Message>> {
        if !self.fill(5).await? {
            return Ok(None);
        }
        let tag = self.input.get_u8();
        let length = self.input.get_u32() as usize;
        if !(4..=MAX_MESSAGE).contains(&length) {
            return Err(garbage("message of impossible length"));
        }
        let rest = length - 4;
        if rest > 0 && !self.fill(rest).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Message { tag, body: self.input.split_to(rest).freeze() }))
    }

    /// Waits until the client closes the connection; input until then is discarded.
    ///
    /// # Errors
    /// Errors of the socket, such as a reset.
    pub(crate) async fn hangup(&mut self) -> io::Result<()> {
        loop {
            self.input.clear();
            self.input.reserve(8192);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Ends the stream so that all output arrives: closing a socket with unread input would reset
    /// the connection and discard data that the client has not read yet.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await?;
        timeout(CLOSE_LIMIT, self.hangup()).await.unwrap_or(Ok(()))
    }

    /// Sends the replies since the last flush.
    ///
    /// # Errors
    /// Errors of the socket; `TimedOut` if the client has stopped reading.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        let sent = timeout(WRITE_LIMIT, self.stream.write_all_buf(&mut self.output)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        // Only callers in this module fill bodies, and those stay far below 4 GiB.
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        self.output.reserve(body.len() + 5);
        self.output.put_u8(tag);
        self.output.put_u32(length);
        self.output.put_slice(body);
    }

    /// `AuthenticationOk`, the parameters that clients expect, `ReadyForQuery` (06 §3.2).
    pub(super) fn welcome(&mut self) {
        self.put(b'R', &0_u32.to_be_bytes());
        self.put(b'S', b"client_encoding\0UTF8\0");
        self.put(b'S', b"integer_datetimes\0on\0");
        self.put(b'S', b"server_version\x0014.1\0");
        self.ready();
    }

    pub(super) fn ask_password(&mut self) {
        self.put(b'R', &3_u32.to_be_bytes());
    }

    pub(super) fn ready(&mut self) {
        self.put(b'Z', b"I");
    }

    pub(super) fn parse_complete(&mut self) {
        self.put(b'1', b"");
    }

    pub(super) fn bind_complete(&mut self) {
        self.put(b'2', b"");
    }

    pub(super) fn close_complete(&mut self) {
        self.put(b'3', b"");
    }

    /// A statement without parameters that returns no rows.
    pub(super) fn statement_description(&mut self) {
        self.put(b't', &0_u16.to_be_bytes());
        self.put(b'n', b"");
    }

    /// `RowDescription` with text columns of these names.
    pub(crate) fn row_description(&mut self, columns: &[&str]) {
        let mut body = BytesMut::new();
        body.put_u16(columns.len() as u16);
        for name in columns {
            put_cstr(&mut body, name);
            body.put_u32(0); // table
            body.put_u16(0); // column
            body.put_u32(25); // type: text
            body.put_i16(-1); // width: variable
            body.put_i32(-1); // modifier: none
            body.put_u16(0); // format: text
        }
        self.put(b'T', &body);
    }

    /// `DataRow`; `None` is SQL NULL.
    pub(crate) fn data_row(&mut self, values: &[Option<&str>]) {
        let mut body = BytesMut::new();
        body.put_u16(values.len() as u16);
        for value in values {
            match value {
                None => body.put_i32(-1),
                Some(text) => {
                    body.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
                    body.put_slice(text.as_bytes());
                }
            }
        }
        self.put(b'D', &body);
    }

    /// `CopyOutResponse` without columns.
    pub(crate) fn copy_out(&mut self) {
        self.put(b'H', &[0, 0, 0]);
    }

    /// One `CopyData`.
    pub(crate) fn copy_data(&mut self, data: &[u8]) {
        self.put(b'd', data);
    }

    /// `CopyDone`.
    pub(crate) fn copy_done(&mut self) {
        self.put(b'c', b"");
    }

    /// `CommandComplete` with this tag.
    pub(crate) fn command_complete(&mut self, tag: &str) {
        let mut body = BytesMut::new();
        put_cstr(&mut body, tag);
        self.put(b'C', &body);
    }

    /// `ErrorResponse` with the three fields that storage servers send (06 §3.2).
    pub(crate) fn error(&mut self, sqlstate: &str, text: &str) {
        let mut body = BytesMut::new();
        for (field, value) in [(b'S', "ERROR"), (b'C', sqlstate), (b'M', text)] {
            body.put_u8(field);
            put_cstr(&mut body, value);
        }
        body.put_u8(0);
        self.put(b'E', &body);
    }
}

/// A NUL inside would end the string early and shift the rest of the message, so it is omitted.
fn put_cstr(body: &mut BytesMut, text: &str) {
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.put_u8(0);
}
