//! A client to which WAL is streamed, and that ignores it.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::assertions::PATIENCE;

const PROTOCOL: i32 = 196_608;

/// A walsender lives as long as this. Drop it before Postgres is stopped, which waits for it.
pub struct WalReceiver {
    _socket: TcpStream,
}

impl WalReceiver {
    /// Starts physical replication at an LSN; the server trusts the client.
    pub async fn start(port: u16, application_name: &str, lsn: &str) -> Self {
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for text in
            ["user", "cloud_admin", "replication", "true", "application_name", application_name, ""]
        {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        send(&mut socket, &startup).await;
        until(&mut socket, b'Z').await;
        socket.write_all(b"Q").await.unwrap();
        send(&mut socket, format!("START_REPLICATION PHYSICAL {lsn}\0").as_bytes()).await;
        until(&mut socket, b'W').await;
        Self { _socket: socket }
    }
}

async fn send(socket: &mut TcpStream, body: &[u8]) {
    let length = i32::try_from(body.len() + 4).unwrap();
    socket.write_all(&[&length.to_be_bytes(), body].concat()).await.unwrap();
}

/// Reads messages until one of this kind.
async fn until(socket: &mut TcpStream, wanted: u8) {
    loop {
        let kind = tokio::time::timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap();
        let length = usize::try_from(socket.read_i32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        socket.read_exact(&mut body).await.unwrap();
        assert_ne!(kind, b'E', "{}", String::from_utf8_lossy(&body));
        if kind == wanted {
            return;
        }
    }
}
