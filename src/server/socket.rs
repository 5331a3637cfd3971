//! The socket of a connection, which the server can still reach after an upgrade.
//!
//! An upgrade moves the socket from the HTTP code to a handler. The server keeps only a weak
//! reference, so the handler closes the connection by dropping the socket; until then the server
//! can shut the socket down, whatever the handler is doing.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::pool::Seat;

/// The side that reads and writes. Drops the stream before it signals `closed`.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    seat: Seat,
    _closed: DropGuard,
}

/// The server's weak reference to a socket.
#[derive(Debug)]
pub(super) struct SocketHandle {
    stream: Weak<TcpStream>,
    closed: CancellationToken,
}

impl Socket {
    /// `seat`: learns when bytes of the client arrive.
    pub(super) fn new(stream: TcpStream, seat: Seat) -> (Self, SocketHandle) {
        let stream = Arc::new(stream);
        let closed = CancellationToken::new();
        let handle = SocketHandle { stream: Arc::downgrade(&stream), closed: closed.clone() };
        (Self { stream, seat, _closed: closed.drop_guard() }, handle)
    }
}

impl SocketHandle {
    /// Waits until the handler closes an upgraded connection; the handler reads an end of file when
    /// `closing` is cancelled. Dropping this future earlier cuts the connection.
    pub(super) async fn until_closed(self, closing: CancellationToken) {
        let upgraded = Upgraded(self);
        // The time limit for unread answers is for HTTP; the other protocol has its own.
        upgraded.with(|socket| socket.set_tcp_user_timeout(None));
        tokio::select! {
            () = upgraded.0.closed.cancelled() => return,
            () = closing.cancelled() => upgraded.with(|socket| socket.shutdown(Shutdown::Read)),
        }
        upgraded.0.closed.cancelled().await;
    }
}

/// A connection that speaks another protocol.
struct Upgraded(SocketHandle);

impl Upgraded {
    /// Changes the socket if it is still open.
    fn with(&self, change: impl FnOnce(SockRef<'_>) -> io::Result<()>) {
        let Some(stream) = self.0.stream.upgrade() else { return };
        if let Err(error) = change(SockRef::from(&*stream)) {
            tracing::debug!("could not change the socket of an upgraded connection: {error}");
        }
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        self.with(|socket| socket.shutdown(Shutdown::Both));
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if matches!(result, Ok(1..)) {
                        self.seat.bytes_arrive();
                    }
                    return Poll::Ready(result.map(|_| ()));
                }
            }
        }
    }
}

impl Socket {
    /// Tries to write whenever the system reports the socket as writable.
    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
            // The client has closed the connection already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
