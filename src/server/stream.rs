//! The bytes of a connection: plain, or through TLS.
//!
//! One type for both, so that the HTTP code is in the program once.
//!
//! The handshake is part of the connection's task: a client that stalls in it holds its own
//! connection, which has a deadline and makes room for others, and nothing else. A renewed
//! certificate is for later connections.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{InvalidMessage, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::Socket;
use crate::errors::one_line;

/// Time and bytes for a client after a handshake that has failed.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_BYTES: u64 = 64 * 1024;

/// Certificate, key and rules for new connections; the owner of the sender renews them.
pub(super) type TlsConfigs = watch::Receiver<Arc<ServerConfig>>;

/// What HTTP reads and writes.
#[derive(Debug)]
pub(super) enum Stream {
    /// The socket itself.
    Plain(Socket),
    /// What TLS makes of its bytes. In a box: connections without TLS must not take its room.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// Waits for the handshake of the client. The error is a sentence for the log, and the socket
    /// for [`part`].
    pub(super) async fn by_handshake(
        socket: Socket,
        config: Arc<ServerConfig>,
    ) -> Result<Self, (String, Socket)> {
        match TlsAcceptor::from(config).accept(socket).into_fallible().await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream))),
            Err((error, socket)) => Err((reason(&error), socket)),
        }
    }
}

/// Lets the client read why its handshake failed. With bytes of the client unread, the system would
/// cut the connection, and the client would see only that.
pub(super) async fn part(mut socket: Socket) {
    let rest = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(PARTING_BYTES), &mut tokio::io::sink()).await
    };
    // There is nothing to do for a client that has left, or that has more to say.
    let _ = timeout(PARTING, rest).await;
}

/// Why a handshake failed.
fn reason(error: &io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the client speaks no TLS, such as plain HTTP; its URL must begin with https://"
                .to_owned()
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            "the client presents no certificate, and this server asks for one".to_owned()
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "the client has left".to_owned(),
        _ => one_line(error),
    }
}

/// The stream behind either form.
macro_rules! through {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Tls($inner) => {
                let $inner = Pin::new($inner.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        through!(self, inner => inner.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        through!(self, inner => inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        through!(self, inner => inner.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, inner => inner.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        through!(self, inner => inner.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests;
