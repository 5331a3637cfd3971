//! Servers that stall, for the tests of time limits.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A short limit that still leaves a busy machine the time for the steps before the stall.
pub(super) const SHORT: Duration = Duration::from_secs(1);
/// A limit that no test outlives.
pub(super) const LONG: Duration = Duration::from_secs(3600);
/// Far longer than any operation with a limit takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A port where connections are neither accepted nor refused, because its queue is full.
#[derive(Debug)]
pub(super) struct FullPort {
    socket: Socket,
    _queued: TcpStream,
}

impl FullPort {
    pub(super) fn open() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        // A queue of length 0 takes one connection.
        socket.listen(0).unwrap();
        let queued = TcpStream::connect(address(&socket)).unwrap();
        Self { socket, _queued: queued }
    }

    pub(super) fn address(&self) -> SocketAddr {
        address(&self.socket)
    }
}

fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// A server that answers each request with `says`, and then stalls.
pub(super) async fn stalling(says: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = client.read(&mut [0; 1024]).await;
                let _ = client.write_all(says).await;
                // Dropping it with unread bytes would reset the connection.
                std::future::pending::<()>().await;
                drop(client);
            });
        }
    });
    address
}
