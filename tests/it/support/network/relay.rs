//! A network between a compute and its storage: relays that delay every message, and a record of
//! which message waited for which.
//!
//! Each message has a depth: one more than that of the latest answer that the compute had received
//! by then, over any connection. So the depth of the deepest answer is the number of consecutive
//! round trips, whatever else the machine does. Opening a connection counts as one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// The record of all relays.
pub struct Network {
    round_trip: Duration,
    record: Arc<Mutex<Record>>,
    relays: Vec<AbortOnDropHandle<()>>,
}

struct Record {
    began: Instant,
    /// Depth of the latest answer that the compute has.
    deepest: usize,
    /// By link, connection, depth and direction: when the first bytes were seen, and how many.
    messages: BTreeMap<(String, usize, usize, Way), (Duration, usize)>,
    connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Connect,
    Request,
    Answer,
}

/// One connection, shared by its two directions.
#[derive(Clone)]
struct Link {
    record: Arc<Mutex<Record>>,
    name: String,
    number: usize,
    /// Depth at which it was opened.
    opened: usize,
    /// Depth of the last message that reached the server.
    at_server: Arc<Mutex<usize>>,
}

type Queue = mpsc::UnboundedReceiver<(Instant, usize, Vec<u8>)>;

impl Network {
    pub fn new(round_trip: Duration) -> Self {
        let record =
            Record { began: Instant::now(), deepest: 0, messages: BTreeMap::new(), connections: 0 };
        Self { round_trip, record: Arc::new(Mutex::new(record)), relays: Vec::new() }
    }

    /// Adds a relay to a port of this machine. Returns the port to use in its place.
    pub async fn link(&mut self, name: &str, to: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = accept(listener, name.to_owned(), to, self.round_trip, self.record.clone());
        self.relays.push(AbortOnDropHandle::new(tokio::spawn(relay)));
        port
    }

    /// Clears the record and restarts the clock.
    pub fn restart(&self) {
        let mut record = self.record.lock().unwrap();
        record.deepest = 0;
        record.began = Instant::now();
        record.messages.clear();
    }

    /// The number of consecutive round trips.
    pub fn round_trips(&self) -> usize {
        self.record.lock().unwrap().deepest
    }

    /// A line per message, in the order of time.
    pub fn waterfall(&self) -> String {
        let record = self.record.lock().unwrap();
        let mut lines: Vec<(Duration, String)> = record
            .messages
            .iter()
            .map(|((name, number, depth, way), (at, bytes))| {
                let what = match way {
                    Way::Connect => "connects".to_owned(),
                    Way::Request => format!("> {bytes} bytes"),
                    Way::Answer => format!("< {bytes} bytes"),
                };
                let (millis, indent) = (at.as_secs_f64() * 1e3, "  ".repeat(*depth));
                (*at, format!("{millis:7.1} ms {indent}{depth} {name} #{number} {what}\n"))
            })
            .collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

async fn accept(
    listener: TcpListener,
    name: String,
    to: u16,
    round_trip: Duration,
    record: Arc<Mutex<Record>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        // The server may refuse connections on purpose.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { continue };
        for socket in [&client, &server] {
            socket.set_nodelay(true).unwrap();
        }
        let (number, opened) = {
            let mut record = record.lock().unwrap();
            record.connections += 1;
            (record.connections, record.deepest + 1)
        };
        let (record, name, at_server) =
            (record.clone(), name.clone(), Arc::new(Mutex::new(opened)));
        let link = Link { record, name, number, opened, at_server };
        link.note(opened, Way::Connect, 0);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (requests, queue) = mpsc::unbounded_channel();
        let open = Instant::now() + round_trip;
        connections.spawn(take(
            from_client,
            link.clone(),
            Way::Request,
            open,
            round_trip / 2,
            requests,
        ));
        connections.spawn(give(to_server, link.clone(), Way::Request, queue));
        let (answers, queue) = mpsc::unbounded_channel();
        connections.spawn(take(
            from_server,
            link.clone(),
            Way::Answer,
            open,
            round_trip / 2,
            answers,
        ));
        connections.spawn(give(to_client, link, Way::Answer, queue));
        while connections.try_join_next().is_some() {}
    }
}

/// Forwards bytes with a delay. No byte is forwarded before the connection is open.
async fn take(
    mut from: OwnedReadHalf,
    link: Link,
    way: Way,
    open: Instant,
    one_way: Duration,
    queue: mpsc::UnboundedSender<(Instant, usize, Vec<u8>)>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let depth = match way {
            Way::Answer => *link.at_server.lock().unwrap(),
            _ => {
                let depth = link.record.lock().unwrap().deepest.max(link.opened) + 1;
                link.note(depth, way, n);
                depth
            }
        };
        let due = Instant::now().max(open) + one_way;
        if queue.send((due, depth, buffer[..n].to_vec())).is_err() {
            return;
        }
    }
}

async fn give(mut to: OwnedWriteHalf, link: Link, way: Way, mut queue: Queue) {
    while let Some((due, depth, bytes)) = queue.recv().await {
        sleep_until(due).await;
        if way == Way::Answer {
            link.note(depth, way, bytes.len());
            let mut record = link.record.lock().unwrap();
            record.deepest = record.deepest.max(depth);
        } else {
            *link.at_server.lock().unwrap() = depth;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

impl Link {
    fn note(&self, depth: usize, way: Way, bytes: usize) {
        let mut record = self.record.lock().unwrap();
        let at = record.began.elapsed();
        let key = (self.name.clone(), self.number, depth, way);
        record.messages.entry(key).or_insert((at, 0)).1 += bytes;
    }
}
