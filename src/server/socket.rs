//! The socket of a connection, which the server can still reach after an upgrade.
//!
//! An upgrade takes the socket out of the hands of HTTP and gives it to a handler. The server keeps
//! no strong reference, so the handler closes the connection by dropping the socket; but until then
//! the server can shut it down, whatever the handler is doing.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The side that reads and writes. The stream is dropped before its watchers are told.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    _closed: DropGuard,
}

/// The side of the server.
#[derive(Debug)]
pub(super) struct SocketHandle {
    stream: Weak<TcpStream>,
    closed: CancellationToken,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Self, SocketHandle) {
        let stream = Arc::new(stream);
        let closed = CancellationToken::new();
        let handle = SocketHandle { stream: Arc::downgrade(&stream), closed: closed.clone() };
        (Self { stream, _closed: closed.drop_guard() }, handle)
    }
}

impl SocketHandle {
    /// The connection after an upgrade, until it is closed; the handler finds an end of file when
    /// `closing` is cancelled. If this is dropped before, the connection is cut.
    pub(super) async fn until_closed(self, closing: CancellationToken) {
        let upgraded = Upgraded(self);
        // The other protocol has its own idea of what is too slow.
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
    /// Does something to the socket if it is still open.
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
                result => return Poll::Ready(result.map(|_| ())),
            }
        }
    }
}

impl Socket {
    /// Tries to write as often as the system says that it can be done.
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
            // The client was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
