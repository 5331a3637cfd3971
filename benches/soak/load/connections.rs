//! Clients of the HTTP server that stall, and clients that are busy.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{Tally, UNANSWERED};
use crate::support::assertions::PATIENCE;
use crate::world::World;

/// In a round, and in one that surges. The server keeps 1024.
const STALLED: [usize; 2] = [250, 10_000];
const BUSY: [usize; 2] = [25, 1_000];
/// Portions in which stalled connections are opened, so that the run does not measure the time of
/// its own client.
const PORTIONS: usize = 20;
const BETWEEN_PORTIONS: Duration = Duration::from_millis(250);
/// Requests of a busy connection.
const REQUESTS: usize = 10;
const BETWEEN_REQUESTS: Duration = Duration::from_millis(500);
/// A connection that is idle between two requests may be closed to make room.
const TRIES: usize = 10;

/// Connections that have sent one byte and stay until the last one is open.
pub async fn stalled(world: &World, surges: bool, tally: &Tally) {
    let port = world.machine.bed.external_port;
    let count = STALLED[usize::from(surges)];
    let mut open = Vec::with_capacity(count);
    for _ in 0..PORTIONS {
        for _ in 0..count / PORTIONS {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // The server may have closed it already to make room.
            let _ = stream.write_all(b"G").await;
            open.push(stream);
        }
        sleep(BETWEEN_PORTIONS).await;
    }
    tally.add("stalled connections", open.len());
    // An end or a reset; an open connection has nothing to read.
    let closed = open.iter().filter(|stream| match stream.try_read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    });
    tally.add("stalled connections that the server closed", closed.count());
}

/// Connections with some requests each, all at once.
pub async fn busy(world: &World, surges: bool, tally: &Tally) {
    let port = world.machine.bed.external_port;
    let clients = (0..BUSY[usize::from(surges)]).map(|number| client(port, number, tally));
    tally.add("busy connections", join_all(clients).await.len());
}

async fn client(port: u16, number: usize, tally: &Tally) {
    let mut kept = None;
    for request in 0..REQUESTS {
        let path = ["/status", "/metrics", "/live"][(number + request) % 3];
        if answered(&mut kept, port, path, tally).await {
            tally.add("requests of busy connections", 1);
        } else {
            tally.add(UNANSWERED, 1);
        }
        sleep(BETWEEN_REQUESTS).await;
    }
}

/// Sends a request, over a new connection if the kept one has been closed.
async fn answered(kept: &mut Option<Line>, port: u16, path: &str, tally: &Tally) -> bool {
    for _ in 0..TRIES {
        let fresh = kept.is_none();
        if let Ok(Some(code)) = timeout(PATIENCE, ask(kept, port, path)).await {
            assert_eq!(code, 200, "{path}");
            return true;
        }
        *kept = None;
        if fresh {
            tally.add("new connections closed before the answer", 1);
        } else {
            tally.add("kept connections closed between requests", 1);
        }
    }
    false
}

/// A kept connection.
type Line = BufReader<TcpStream>;

/// The status code; `None` if the connection ends before the answer.
async fn ask(kept: &mut Option<Line>, port: u16, path: &str) -> Option<u16> {
    let line = match kept {
        Some(line) => line,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            stream.set_nodelay(true).ok()?;
            kept.insert(BufReader::new(stream))
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    line.write_all(request.as_bytes()).await.ok()?;
    let (mut text, mut code, mut length) = (String::new(), None, 0);
    loop {
        text.clear();
        if line.read_line(&mut text).await.ok()? == 0 {
            return None;
        }
        match text.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            None if text.starts_with("HTTP/1.1 ") => {
                code = Some(text.split(' ').nth(1)?.parse().ok()?);
            }
            None => break,
            Some(_) => {}
        }
    }
    line.read_exact(&mut vec![0; length]).await.ok()?;
    code
}
