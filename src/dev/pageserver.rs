//! Stand-in pageserver: serves one archive file as basebackup over libpq, and can be told to fail.
//!
//! The archive is read in chunks while it is sent, so memory does not grow with it. Faults that
//! concern the stream are used up by `basebackup` commands, [`Fault::Refuse`] by connections, so
//! that a script of faults meets the client's attempts one by one whatever else it asks.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::read::GzDecoder;
use tokio::sync::mpsc;

use super::commands::{Verb, parse};
pub use super::faults::{Fault, LeaseAnswer, PageserverBehaviour};
use super::framing::Peer;
use super::journal::Journal;
use super::lock;
use super::wire::{Handler, Outcome, Server, Session};

/// Payload of one `CopyData`.
const CHUNK: usize = 64 * 1024;
/// Chunks read ahead of the socket.
const READ_AHEAD: usize = 4;

/// What a stand-in pageserver starts with.
#[derive(Clone, Default)]
pub struct PageserverOptions {
    /// The gzip tar to serve; see [`super::archive::build`].
    pub archive: PathBuf,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Password that clients must send.
    pub password: Option<String>,
}

impl fmt::Debug for PageserverOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageserverOptions")
            .field("archive", &self.archive)
            .field("port", &self.port)
            .field("password", &self.password.as_ref().map(|_| "[secret]"))
            .finish()
    }
}

/// A running stand-in pageserver. Dropping it ends it.
#[derive(Debug)]
pub struct StandInPageserver {
    server: Server,
    behaviour: Arc<Mutex<PageserverBehaviour>>,
}

impl StandInPageserver {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(options: PageserverOptions) -> io::Result<Self> {
        let behaviour = Arc::new(Mutex::new(PageserverBehaviour {
            archive: options.archive,
            password: options.password,
            delay: Duration::ZERO,
            lease: LeaseAnswer::For(Duration::from_secs(600)),
            faults: VecDeque::new(),
        }));
        let handler = Arc::new(Responder(behaviour.clone()));
        let server = Server::start(options.port, handler).await?;
        Ok(Self { server, behaviour })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The address as a spec names it, without password.
    #[must_use]
    pub fn connstring(&self) -> String {
        format!("postgresql://no_user@127.0.0.1:{}", self.port())
    }

    /// What clients did.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.server.journal()
    }

    /// Changes the behaviour from the next connection or command on.
    pub fn behave(&self, change: impl FnOnce(&mut PageserverBehaviour)) {
        change(&mut lock(&self.behaviour));
    }

    /// Replaces all faults by one: for the next `times` occasions, or for ever with `None`.
    pub fn set_fault(&self, fault: Fault, times: Option<u32>) {
        self.clear_faults();
        self.then_fault(fault, times);
    }

    /// Adds a fault that begins when those before it are used up.
    pub fn then_fault(&self, fault: Fault, times: Option<u32>) {
        if times != Some(0) {
            lock(&self.behaviour).faults.push_back((fault, times));
        }
    }

    /// From now on all goes well.
    pub fn clear_faults(&self) {
        lock(&self.behaviour).faults.clear();
    }

    /// Serves another archive from the next command on; streams under way keep theirs.
    pub fn set_archive(&self, archive: &Path) {
        lock(&self.behaviour).archive = archive.to_owned();
    }

    /// Stops listening and closes all connections.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

struct Responder(Arc<Mutex<PageserverBehaviour>>);

impl Handler for Responder {
    fn admits(&self) -> bool {
        lock(&self.0).take(|fault| *fault == Fault::Refuse).is_none()
    }

    fn password(&self) -> Option<String> {
        lock(&self.0).password.clone()
    }

    async fn answer(
        &self,
        _session: &Session,
        command: &str,
        peer: &mut Peer,
    ) -> io::Result<Outcome> {
        let delay = lock(&self.0).delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match parse(command) {
            Ok(Verb::Set) => {
                peer.command_complete("SELECT 1");
                Ok(Outcome::Done)
            }
            Ok(Verb::Lease) => {
                let answer = lock(&self.0).lease.clone();
                Ok(lease(&answer, peer))
            }
            Ok(Verb::Basebackup { gzip }) => {
                let (archive, fault) = {
                    let mut behaviour = lock(&self.0);
                    let fault = behaviour.take(|fault| *fault != Fault::Refuse);
                    (behaviour.archive.clone(), fault)
                };
                basebackup(&archive, gzip, fault, peer).await
            }
            Err(text) => Ok(fail(peer, &text)),
        }
    }
}

fn fail(peer: &mut Peer, text: &str) -> Outcome {
    peer.error("XX000", text);
    Outcome::Failed
}

fn lease(answer: &LeaseAnswer, peer: &mut Peer) -> Outcome {
    let value = match answer {
        LeaseAnswer::Error(text) => return fail(peer, text),
        LeaseAnswer::NoRow => None,
        LeaseAnswer::Text(text) => Some(text.clone()),
        LeaseAnswer::For(time) => {
            let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + *time;
            Some(Some(until.as_millis().to_string()))
        }
    };
    peer.row_description(&["valid_until"]);
    if let Some(value) = value {
        peer.data_row(&[value.as_deref()]);
    }
    peer.command_complete("SELECT 1");
    Outcome::Done
}

async fn basebackup(
    archive: &Path,
    gzip: bool,
    fault: Option<Fault>,
    peer: &mut Peer,
) -> io::Result<Outcome> {
    match &fault {
        Some(Fault::Error(text)) => return Ok(fail(peer, text)),
        Some(Fault::Silence) => return hangup(peer).await,
        _ => {}
    }
    let mut chunks = match read_archive(archive, gzip) {
        Ok(chunks) => chunks,
        Err(error) => return Ok(fail(peer, &format!("Not found: no basebackup here: {error}"))),
    };
    peer.copy_out();
    peer.flush().await?;

    let limit = match &fault {
        Some(
            Fault::DropAfter(bytes)
            | Fault::ErrorAfter(bytes, _)
            | Fault::Truncated(bytes)
            | Fault::StallAfter(bytes),
        ) => *bytes,
        Some(Fault::Garbage | Fault::Empty) => 0,
        _ => u64::MAX,
    };
    let mut left = limit;
    while left > 0
        && let Some(chunk) = chunks.recv().await
    {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ok(fail(peer, &format!("cannot read the archive: {error}"))),
        };
        let send = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        peer.copy_data(&chunk.slice(..send));
        peer.flush().await?;
        left = left.saturating_sub(send as u64);
    }

    match fault {
        Some(Fault::DropAfter(_)) => return Ok(Outcome::Hangup),
        Some(Fault::StallAfter(_)) => return hangup(peer).await,
        Some(Fault::ErrorAfter(_, text) | Fault::ErrorAfterArchive(text)) => {
            return Ok(fail(peer, &text));
        }
        Some(Fault::Garbage) => peer.copy_data(&b"this is no gzip stream\n".repeat(500)),
        _ => {}
    }
    peer.copy_done();
    if let Some(Fault::ErrorAfterCopyDone(text)) = fault {
        return Ok(fail(peer, &text));
    }
    peer.command_complete("SELECT 1");
    Ok(Outcome::Done)
}

async fn hangup(peer: &mut Peer) -> io::Result<Outcome> {
    peer.hangup().await?;
    Ok(Outcome::Hangup)
}

/// Reads the archive on a blocking thread, inflated unless the client takes gzip. The thread ends
/// when the receiver is dropped.
fn read_archive(path: &Path, gzip: bool) -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let file = File::open(path)?;
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut reader: Box<dyn Read> =
            if gzip { Box::new(file) } else { Box::new(GzDecoder::new(io::BufReader::new(file))) };
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            let last = !matches!(read, Ok(bytes) if bytes > 0);
            if matches!(read, Ok(0)) || sender.blocking_send(read.map(|_| chunk.into())).is_err() {
                return;
            }
            if last {
                return;
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::pin::pin;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::StreamExt;
    use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

    use super::*;

    const BACKUP: &str = "basebackup 51b0c7e2a94d4c06b3f7d1e8a2640f9c \
                          e7d25a1c90b84f3fa6120c4b8d93f57e 0/2A3B4C8 --gzip";

    /// The plain content, and a server for its gzip form.
    async fn start() -> (tempfile::TempDir, Vec<u8>, StandInPageserver) {
        let dir = tempfile::tempdir().unwrap();
        let plain: Vec<u8> =
            (0..400_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&plain).unwrap();
        let archive = dir.path().join("base.tar.gz");
        std::fs::write(&archive, packer.finish().unwrap()).unwrap();
        let options = PageserverOptions { archive, ..Default::default() };
        let server = StandInPageserver::start(options).await.unwrap();
        (dir, plain, server)
    }

    async fn client(server: &StandInPageserver) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&server.connstring(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The payload received, and how it ended.
    async fn fetch(
        server: &StandInPageserver,
        command: &str,
    ) -> (Vec<u8>, Result<(), tokio_postgres::Error>) {
        let mut payload = Vec::new();
        let client = match client(server).await {
            Ok(client) => client,
            Err(error) => return (payload, Err(error)),
        };
        let mut stream = match client.copy_out(command).await {
            Ok(stream) => pin!(stream),
            Err(error) => return (payload, Err(error)),
        };
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => payload.extend(&chunk),
                Err(error) => return (payload, Err(error)),
            }
        }
        (payload, Ok(()))
    }

    fn message(result: Result<(), tokio_postgres::Error>) -> String {
        result.unwrap_err().as_db_error().unwrap().message().to_owned()
    }

    #[tokio::test]
    async fn serves_the_archive_packed_and_plain() {
        let (dir, plain, server) = start().await;
        let packed = std::fs::read(dir.path().join("base.tar.gz")).unwrap();
        let (payload, end) = fetch(&server, BACKUP).await;
        end.unwrap();
        assert!(payload == packed);
        let (payload, end) = fetch(&server, BACKUP.trim_end_matches(" --gzip")).await;
        end.unwrap();
        assert!(payload == plain);
        assert_eq!(server.journal().commands().len(), 2);
        assert_eq!(server.journal().connections(), 2);

        let other = dir.path().join("other");
        std::fs::write(&other, "short").unwrap();
        server.set_archive(&other);
        assert_eq!(fetch(&server, BACKUP).await.0, b"short");
        // A broken archive is an error, not an end.
        let (_, end) = fetch(&server, BACKUP.trim_end_matches(" --gzip")).await;
        assert!(message(end).starts_with("cannot read the archive"));
        server.set_archive(&dir.path().join("none"));
        assert!(message(fetch(&server, BACKUP).await.1).starts_with("Not found"));
        server.shutdown().await;
    }

    #[tokio::test]
    async fn faults_in_the_stream() {
        let (dir, _plain, server) = start().await;
        let packed = std::fs::read(dir.path().join("base.tar.gz")).unwrap();
        let text = || "storage says no".to_owned();
        let half = packed.len() / 2;
        // Fault, bytes that arrive, whether the server says why.
        let cases = [
            (Fault::Error(text()), 0, true),
            (Fault::ErrorAfter(half as u64, text()), half, true),
            (Fault::ErrorAfterArchive(text()), packed.len(), true),
            (Fault::DropAfter(half as u64), half, false),
            (Fault::DropAfter(0), 0, false),
        ];
        for (fault, bytes, says) in cases {
            server.set_fault(fault.clone(), Some(1));
            let (payload, end) = fetch(&server, BACKUP).await;
            assert_eq!(payload.len(), bytes, "{fault:?}");
            match says {
                true => assert_eq!(message(end), text(), "{fault:?}"),
                false => assert!(end.unwrap_err().as_db_error().is_none(), "{fault:?}"),
            }
            assert!(fetch(&server, BACKUP).await.1.is_ok(), "{fault:?} only once");
        }
        // These look like a success on the wire; the payload is what is wrong.
        let cases = [(Fault::Empty, 0), (Fault::Truncated(100_000), 100_000)];
        for (fault, bytes) in cases {
            server.set_fault(fault.clone(), None);
            let (payload, end) = fetch(&server, BACKUP).await;
            end.unwrap();
            assert!(payload == packed[..bytes], "{fault:?}");
        }
        server.set_fault(Fault::Garbage, None);
        let (payload, end) = fetch(&server, BACKUP).await;
        end.unwrap();
        assert!(!payload.is_empty() && !payload.starts_with(&[0x1f, 0x8b]));
    }

    #[tokio::test]
    async fn an_error_after_copy_done_is_sent() {
        let (_dir, _plain, server) = start().await;
        server.set_fault(Fault::ErrorAfterCopyDone("too late".to_owned()), None);
        // This client stops listening at CopyDone, so the bytes themselves are looked at.
        let mut stream = raw(&server).await;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut query = vec![b'Q'];
        query.extend((BACKUP.len() as u32 + 5).to_be_bytes());
        query.extend(BACKUP.as_bytes());
        query.extend([0, b'X', 0, 0, 0, 4]);
        stream.write_all(&query).await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        let end = b"c\0\0\0\x04E\0\0\0\x1dSERROR\0CXX000\0Mtoo late\0\0Z\0\0\0\x05I";
        assert!(back.ends_with(end), "{:?}", String::from_utf8_lossy(&back[back.len() - 60..]));
    }

    async fn raw(server: &StandInPageserver) -> tokio::net::TcpStream {
        use tokio::io::AsyncWriteExt;
        let address = ("127.0.0.1", server.port());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"\0\0\0\x09\0\x03\0\0\0").await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_stall_lasts_until_the_client_or_the_server_goes() {
        let (_dir, _plain, server) = start().await;
        server.set_fault(Fault::StallAfter(1000), Some(1));
        let first = client(&server).await.unwrap();
        let mut stream = pin!(first.copy_out(BACKUP).await.unwrap());
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 1000);
        // The second attempt is served while the first hangs.
        fetch(&server, BACKUP).await.1.unwrap();
        server.set_fault(Fault::Silence, None);
        let third = client(&server).await.unwrap();
        let ask = third.copy_out(BACKUP);
        let ((), answer) = tokio::join!(server.shutdown(), ask);
        assert!(answer.is_err());
        assert!(stream.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn refusals_count_connections_and_errors_count_commands() {
        let (_dir, _plain, server) = start().await;
        server.set_fault(Fault::Refuse, Some(2));
        server.then_fault(Fault::Error("later".to_owned()), Some(1));
        assert!(client(&server).await.is_err());
        assert!(client(&server).await.is_err());
        let leaseholder = client(&server).await.unwrap();
        leaseholder.simple_query("set datestyle to iso").await.unwrap();
        assert_eq!(message(fetch(&server, BACKUP).await.1), "later");
        fetch(&server, BACKUP).await.1.unwrap();
        assert_eq!(server.journal().connections(), 5);
    }

    #[tokio::test]
    async fn leases() {
        let (_dir, _plain, server) = start().await;
        let client = client(&server).await.unwrap();
        let command = BACKUP.replace("basebackup", "lease lsn").replace("--gzip", "");
        let ask = async || {
            let items = client.simple_query(&command).await?;
            Ok::<_, tokio_postgres::Error>(items.into_iter().find_map(|item| match item {
                SimpleQueryMessage::Row(row) => Some(row.get("valid_until").map(str::to_owned)),
                _ => None,
            }))
        };
        let until: u128 = ask().await.unwrap().unwrap().unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!((500_000..=600_000).contains(&(until - now)));
        server.behave(|behaviour| behaviour.lease = LeaseAnswer::Text(None));
        assert_eq!(ask().await.unwrap(), Some(None));
        server.behave(|behaviour| behaviour.lease = LeaseAnswer::NoRow);
        assert_eq!(ask().await.unwrap(), None);
        server.behave(|behaviour| behaviour.lease = LeaseAnswer::Error("x".to_owned()));
        assert!(ask().await.is_err());
    }

    #[tokio::test]
    async fn secrets_are_not_printed() {
        let password = Some("hunter2".to_owned());
        let options = PageserverOptions { password, ..Default::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
        let server = StandInPageserver::start(options).await.unwrap();
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
