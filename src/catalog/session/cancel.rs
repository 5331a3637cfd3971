//! Telling the server to give up what a session is doing.
//!
//! The server closes the connection of the request once it has signalled the backend. Whoever goes
//! on before that may have the next statement of the session cancelled instead.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::{CancelToken, Config, NoTls};

/// Where a server listens unless the URL says otherwise.
const PORT: u16 = 5432;

/// Sends the request to each server that the session may be connected to, and waits until it was
/// worked on. Only the right one knows the secret in it.
pub(super) async fn cancel(token: &CancelToken, config: &Config) -> io::Result<()> {
    let ports = config.get_ports();
    if config.get_hosts().is_empty() {
        // Addresses alone; the library knows which one it was.
        return token.cancel_query(NoTls).await.map_err(io::Error::other);
    }
    let mut outcome = Err(io::ErrorKind::NotConnected.into());
    for (at, host) in config.get_hosts().iter().enumerate() {
        // One port stands for all hosts.
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        let sent = match host {
            Host::Tcp(host) => match TcpStream::connect((host.as_str(), port)).await {
                Ok(stream) => send(token, stream).await,
                Err(error) => Err(error),
            },
            Host::Unix(folder) => {
                match UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await {
                    Ok(stream) => send(token, stream).await,
                    Err(error) => Err(error),
                }
            }
        };
        outcome = outcome.or(sent);
    }
    outcome
}

async fn send(
    token: &CancelToken,
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> io::Result<()> {
    token.cancel_query_raw(&mut stream, NoTls).await.map_err(io::Error::other)?;
    match stream.read(&mut [0]).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}
