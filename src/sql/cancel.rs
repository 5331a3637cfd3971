//! Asks the server to cancel the statement of a session.
//!
//! The server closes the connection of the request once it has signalled the backend. A caller
//! that continues before that may have its next statement cancelled instead.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio_postgres::{CancelToken, Config, NoTls};

use super::reach::{self, Stream};
use crate::errors::as_io;

/// Sends the request to each server that the session may be connected to, and waits until it was
/// processed. Only the right server accepts the secret in it.
pub(super) async fn cancel(token: &CancelToken, config: &Config) -> io::Result<()> {
    let mut outcome = Err(io::ErrorKind::NotConnected.into());
    for stream in reach::all_streams(config).await {
        let sent = match stream {
            Ok(stream) => send(token, stream).await,
            Err(error) => Err(error),
        };
        outcome = outcome.or(sent);
    }
    outcome
}

async fn send(token: &CancelToken, mut stream: Box<dyn Stream>) -> io::Result<()> {
    token.cancel_query_raw(&mut stream, NoTls).await.map_err(as_io)?;
    match stream.read(&mut [0]).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}
