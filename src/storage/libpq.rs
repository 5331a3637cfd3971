//! A connection to a pageserver over libpq, with the minimum for one base backup (06 §3).
//!
//! Uses the message encoders of `postgres-protocol` instead of `tokio-postgres`, because three
//! things are out of reach there: seeing the messages after CopyDone (an error after the archive
//! must fail the try), memory that does not depend on the size of the server's CopyData messages
//! (the driver buffers each one whole), and separate deadlines for the first byte and for stalls.
//! The simple query protocol also saves the round trip for preparing the statement; the server
//! accepts both (06 §3.4).
//!
//! No task serves a connection: dropping it closes the socket.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use postgres_protocol::message::{backend, frontend};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};
use tokio::time::timeout;

use super::errors::FetchError;
use super::target::{LibpqEndpoint, PING_AFTER, PING_LIMIT};
use crate::spec::libpq_url::HostAddress;

/// Bytes read from the socket at once; also the largest chunk handed on.
pub(super) const READ_SIZE: usize = 64 * 1024;
/// Limit for all messages but CopyData.
const MAX_MESSAGE: usize = 64 * 1024;
/// The kernel sends each ping once, so a single lost ping must not end the connection.
const LOST_PINGS: u32 = 2;

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// An open, authenticated connection on which nothing was requested yet, or which streams an
/// archive.
pub(super) struct LibpqConnection {
    socket: Box<dyn Socket>,
    peer: String,
    /// Received and not yet used.
    buffer: BytesMut,
    /// Bytes of the current CopyData message that are still to come.
    in_message: usize,
    /// CopyDone has been seen; only CommandComplete may follow.
    copy_done: bool,
    connect_time: Duration,
}

impl fmt::Debug for LibpqConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibpqConnection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl LibpqConnection {
    /// Connects and authenticates. `limit` holds for each of the addresses; the URL may ask for
    /// less.
    pub(super) async fn open(
        endpoint: &LibpqEndpoint,
        limit: Duration,
    ) -> Result<Self, FetchError> {
        let limit = endpoint.connect_timeout.map_or(limit, |asked| asked.min(limit));
        let started = Instant::now();
        let mut last = FetchError::Protocol("the connection string names no host");
        for address in &endpoint.addresses {
            let peer = address.to_string();
            last = match timeout(limit, Self::handshake(address, endpoint)).await {
                Ok(Ok(connection)) => {
                    return Ok(Self { connect_time: started.elapsed(), ..connection });
                }
                Ok(Err(error)) => error,
                Err(_) => FetchError::ConnectTimeout { peer, limit },
            };
        }
        Err(last)
    }

    /// A connection over which everything was said but the command.
    #[cfg(any(test, fuzzing))]
    pub(super) fn over(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            peer: "test".to_owned(),
            buffer: BytesMut::new(),
            in_message: 0,
            copy_done: false,
            connect_time: Duration::ZERO,
        }
    }

    /// The peer, as `host:port` or the path of a socket.
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// How long connecting and authenticating took.
    pub(super) const fn connect_time(&self) -> Duration {
        self.connect_time
    }

    /// Whether the server closed an idle connection or sent something on it, which it does only
    /// before it closes. Does not wait.
    pub(super) fn is_stale(&mut self) -> bool {
        !self.buffer.is_empty() || self.socket.read_buf(&mut self.buffer).now_or_never().is_some()
    }

    /// The caller sets a limit for this together with connecting.
    async fn handshake(
        address: &HostAddress,
        endpoint: &LibpqEndpoint,
    ) -> Result<Self, FetchError> {
        let peer = address.to_string();
        let socket = connect(address)
            .await
            .map_err(|error| FetchError::Connect { peer: peer.clone(), error })?;
        let mut connection = Self {
            socket,
            peer,
            buffer: BytesMut::new(),
            in_message: 0,
            copy_done: false,
            connect_time: Duration::ZERO,
        };

        let mut parameters = vec![
            ("client_encoding", "UTF8"),
            ("user", &endpoint.user),
            ("options", &endpoint.options),
            ("application_name", "compute_ctl"),
        ];
        if let Some(database) = &endpoint.database {
            parameters.push(("database", database));
        }
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message).map_err(FetchError::Lost)?;
        connection.send(&message).await?;

        let mut authenticated = false;
        loop {
            let (tag, body) = connection.message().await?;
            match (tag, &*body) {
                (backend::AUTHENTICATION_TAG, _) if authenticated => {
                    return Err(FetchError::Protocol("authentication after its end"));
                }
                (backend::AUTHENTICATION_TAG, [0, 0, 0, 0]) => authenticated = true,
                (backend::AUTHENTICATION_TAG, [0, 0, 0, 3]) => {
                    let Some(password) = &endpoint.password else {
                        return Err(FetchError::PasswordMissing(connection.peer));
                    };
                    message.clear();
                    frontend::password_message(password.expose(), &mut message)
                        .map_err(FetchError::Lost)?;
                    connection.send(&message).await?;
                }
                // A method has 4 bytes; what follows is its own. These two have nothing more.
                (
                    backend::AUTHENTICATION_TAG,
                    [0, 0, 0, 0 | 3, ..] | [] | [_] | [_, _] | [_, _, _],
                ) => {
                    return Err(FetchError::Protocol("authentication of another length"));
                }
                (backend::AUTHENTICATION_TAG, _) => {
                    return Err(FetchError::Authentication(connection.peer));
                }
                (backend::BACKEND_KEY_DATA_TAG, _) if authenticated => {}
                (backend::READY_FOR_QUERY_TAG, [_]) if authenticated => return Ok(connection),
                _ => return Err(FetchError::Protocol("unexpected message while connecting")),
            }
        }
    }

    /// Sends the command and waits until the server agrees to stream, without a limit.
    pub(super) async fn start_copy(&mut self, command: &str) -> Result<(), FetchError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message).map_err(FetchError::Lost)?;
        self.send(&message).await?;
        match self.message().await? {
            (backend::COPY_OUT_RESPONSE_TAG, _) => Ok(()),
            _ => Err(FetchError::Protocol("the answer to the command is not a COPY")),
        }
    }

    /// The next bytes of the archive, at most [`READ_SIZE`] and never empty. `None` only after
    /// CopyDone *and* CommandComplete, so an error that the server sends after the archive is
    /// not lost. `limit` holds for each wait for the network.
    pub(super) async fn next_chunk(
        &mut self,
        limit: Duration,
    ) -> Result<Option<Bytes>, FetchError> {
        let mut chunk = BytesMut::new();
        loop {
            let room = READ_SIZE.saturating_sub(chunk.len());
            let n = self.in_message.min(self.buffer.len()).min(room);
            if n > 0 {
                if chunk.is_empty() {
                    chunk.reserve(self.buffer.len().min(READ_SIZE));
                }
                chunk.extend_from_slice(&self.buffer.split_to(n));
                self.in_message = self.in_message.saturating_sub(n);
                continue;
            }
            if self.in_message == 0 && room > 0 {
                self.skip_notices()?;
                if let Some((backend::COPY_DATA_TAG, length)) = self.header()? {
                    if self.copy_done {
                        return Err(FetchError::Protocol("data after the end of the COPY"));
                    }
                    self.buffer.advance(5);
                    self.in_message = length;
                    continue;
                }
                if chunk.is_empty()
                    && let Some((tag, body)) = self.parse_message()?
                {
                    match tag {
                        // One with a body may have swallowed the error that follows it.
                        backend::COPY_DONE_TAG if !self.copy_done && body.is_empty() => {
                            self.copy_done = true;
                        }
                        backend::COMMAND_COMPLETE_TAG if self.copy_done => return Ok(None),
                        _ => return Err(FetchError::Protocol("unexpected message in the COPY")),
                    }
                    continue;
                }
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk.freeze()));
            }
            timeout(limit, self.fill()).await.unwrap_or(Err(FetchError::Stalled(limit)))?;
        }
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), FetchError> {
        self.socket.write_all(message).await.map_err(FetchError::Lost)?;
        self.socket.flush().await.map_err(FetchError::Lost)
    }

    /// Reads the bytes that have arrived; waits if there are none.
    async fn fill(&mut self) -> Result<(), FetchError> {
        self.buffer.reserve(READ_SIZE);
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(FetchError::Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(FetchError::Lost(error)),
        }
    }

    /// Tag and body length of the next message, once its header has arrived.
    fn header(&self) -> Result<Option<(u8, usize)>, FetchError> {
        let bad = |_| FetchError::Protocol("a message with an impossible length");
        let Some(header) = backend::Header::parse(&self.buffer).map_err(bad)? else {
            return Ok(None);
        };
        let length = usize::try_from(header.len()).unwrap_or_default().saturating_sub(4);
        Ok(Some((header.tag(), length)))
    }

    /// The next message that is not CopyData, once it has arrived. ErrorResponses become errors;
    /// notices and parameters are skipped.
    fn parse_message(&mut self) -> Result<Option<(u8, Bytes)>, FetchError> {
        self.skip_notices()?;
        let Some((tag, length)) = self.header()? else { return Ok(None) };
        match (tag, self.take_body(length)?) {
            (backend::ERROR_RESPONSE_TAG, Some(body)) => Err(server_error(&body)),
            (_, body) => Ok(body.map(|body| (tag, body))),
        }
    }

    /// Skips the notices and parameters that have arrived. What follows may be CopyData, which only
    /// [`Self::next_chunk`] takes.
    fn skip_notices(&mut self) -> Result<(), FetchError> {
        while let Some((backend::NOTICE_RESPONSE_TAG | backend::PARAMETER_STATUS_TAG, length)) =
            self.header()?
        {
            if self.take_body(length)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the first message off the buffer and returns its body, once it has arrived.
    fn take_body(&mut self, length: usize) -> Result<Option<Bytes>, FetchError> {
        if length > MAX_MESSAGE {
            return Err(FetchError::Protocol("a message that is too large"));
        }
        if self.buffer.len() < length.saturating_add(5) {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    async fn message(&mut self) -> Result<(u8, Bytes), FetchError> {
        loop {
            if let Some(message) = self.parse_message()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }
}

async fn connect(address: &HostAddress) -> io::Result<Box<dyn Socket>> {
    match address {
        HostAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        HostAddress::Name(host, port) => Ok(Box::new(connect_tcp((host.as_str(), *port)).await?)),
        HostAddress::Ip(ip, port) => Ok(Box::new(connect_tcp((*ip, *port)).await?)),
    }
}

async fn connect_tcp(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // The command is one small packet; Nagle's algorithm must not delay it.
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(PING_AFTER)
        .with_interval(PING_LIMIT)
        .with_retries(LOST_PINGS);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Parses the fields of an ErrorResponse: a type byte and a text each, ended by zero bytes.
fn server_error(body: &[u8]) -> FetchError {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0)
            .find_map(|field| field.split_first().filter(|(kind, _)| **kind == wanted))
            .map_or_else(|| "?".to_owned(), |(_, text)| String::from_utf8_lossy(text).into_owned())
    };
    FetchError::Server { code: field(b'C'), message: field(b'M') }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A notice between two pieces of an archive, all in one packet.
    #[tokio::test]
    async fn notices_may_come_at_any_time() {
        use crate::storage::testing::{copy, copy_end, message};
        let notice = message(b'N', b"SNOTICE\0Mbusy\0\0");
        let large = vec![7; MAX_MESSAGE + 1];
        for piece in [b"more".as_slice(), &large] {
            let sent = [copy(b"archive", 7), notice.clone(), message(b'd', piece), copy_end()];
            let (ours, mut server) = tokio::io::duplex(1 << 20);
            server.write_all(&sent.concat()).await.unwrap();
            let mut connection = LibpqConnection::over(ours);
            connection.start_copy("basebackup").await.unwrap();
            let mut archive = Vec::new();
            while let Some(chunk) = connection.next_chunk(Duration::from_secs(60)).await.unwrap() {
                archive.extend_from_slice(&chunk);
            }
            assert_eq!(archive, [b"archive", piece].concat());
        }
    }

    /// A vanished machine is detected long before the limit for the first byte.
    #[tokio::test]
    async fn a_silent_peer_is_probed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect_tcp(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
    }
}
