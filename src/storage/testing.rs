//! Shared by the tests of this module: archives, and a server that implements a minimum of the
//! protocol and misbehaves on request.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Path and content; directories end in `/`.
pub(super) type Entries<'a> = &'a [(&'a str, &'a [u8])];

/// A tar of files of mode 0600 and directories of mode 0755. Names are written unchanged, even
/// names that the tar crate would refuse.
pub(super) fn tar(entries: Entries<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        let is_dir = path.ends_with('/');
        header.set_mode(if is_dir { 0o755 } else { 0o600 });
        header.set_entry_type(if is_dir { tar::EntryType::dir() } else { tar::EntryType::file() });
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One message with its length.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.put_u32(body.len() as u32 + 4);
    out.extend_from_slice(body);
    out
}

pub(super) fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0C{code}\0M{text}\0\0").as_bytes())
}

/// The start of a COPY with the archive in pieces, without its end.
pub(super) fn copy(archive: &[u8], piece: usize) -> Vec<u8> {
    let mut out = message(b'H', &[0, 0, 0]);
    for piece in archive.chunks(piece) {
        out.extend(message(b'd', piece));
    }
    out
}

pub(super) fn copy_end() -> Vec<u8> {
    [message(b'c', b""), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

pub(super) fn table(columns: &[&str], rows: &[&[Option<&str>]]) -> Vec<u8> {
    let mut head = BytesMut::new();
    head.put_u16(columns.len() as u16);
    for column in columns {
        head.put_slice(column.as_bytes());
        head.put_slice(b"\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    }
    let mut out = message(b'T', &head);
    for row in rows {
        let mut body = BytesMut::new();
        body.put_u16(row.len() as u16);
        for value in *row {
            body.put_i32(value.map_or(-1, |text| text.len() as i32));
            body.put_slice(value.unwrap_or_default().as_bytes());
        }
        out.extend(message(b'D', &body));
    }
    [out, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

/// What the server does with one connection.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Closes the connection at once.
    Hangup,
    /// Never sends anything.
    Mute,
    /// Sends the greeting, then closes.
    GreetAndHangup,
    /// Asks for the password, then refuses it with these bytes.
    Refuse(Vec<u8>),
    /// Sends the greeting, answers the query with these bytes, then keeps the connection open.
    Answer(Vec<u8>),
    /// As [`Self::Answer`], piece by piece, each after this delay.
    AnswerSlowly(Duration, Vec<Vec<u8>>),
    /// As [`Self::Answer`], then closes.
    AnswerAndHangup(Vec<u8>),
}

/// Events that the server saw, one line each: startup parameters, password, query.
pub(super) type Journal = Arc<Mutex<Vec<String>>>;

pub(super) struct Server {
    pub port: u16,
    pub journal: Journal,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// The n-th connection gets the n-th act, later connections the last one.
    pub(super) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let journal = Journal::default();
        let seen = journal.clone();
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            for act in acts.iter().chain(std::iter::repeat(acts.last().unwrap())) {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                sessions.spawn(serve(socket, act.clone(), seen.clone()));
            }
        });
        Self { port, journal, task }
    }

    pub(super) fn seen(&self, what: &str) -> Vec<String> {
        let journal = self.journal.lock();
        journal.iter().filter_map(|line| line.strip_prefix(what)).map(str::to_owned).collect()
    }
}

/// `None` means that the client closed the connection, which it may do.
async fn serve(mut socket: TcpStream, act: Act, journal: Journal) -> Option<()> {
    let note = |line: String| journal.lock().push(line);
    if matches!(act, Act::Hangup) {
        return None;
    }
    let length = socket.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    socket.read_exact(&mut body).await.ok()?;
    note(format!("startup {}", String::from_utf8_lossy(&body[4..]).replace('\0', "|")));
    if matches!(act, Act::Mute) {
        let _ = socket.read_u8().await;
        return None;
    }
    socket.write_all(&message(b'R', &[0, 0, 0, 3])).await.ok()?;
    note(format!("password {}", read(&mut socket).await?));
    if let Act::Refuse(error) = act {
        return socket.write_all(&error).await.ok();
    }
    let greeting =
        [message(b'R', &[0; 4]), message(b'S', b"client_encoding\0UTF8\0"), message(b'Z', b"I")];
    socket.write_all(&greeting.concat()).await.ok()?;
    if matches!(act, Act::GreetAndHangup) {
        return None;
    }
    note(format!("query {}", read(&mut socket).await?));
    match act {
        Act::AnswerAndHangup(bytes) => socket.write_all(&bytes).await.ok(),
        Act::AnswerSlowly(pause, pieces) => {
            for piece in pieces {
                tokio::time::sleep(pause).await;
                socket.write_all(&piece).await.ok()?;
            }
            let _ = socket.read_u8().await;
            None
        }
        Act::Answer(bytes) => {
            socket.write_all(&bytes).await.ok()?;
            let _ = socket.read_u8().await;
            None
        }
        _ => None,
    }
}

async fn read(socket: &mut TcpStream) -> Option<String> {
    let mut head = [0; 5];
    socket.read_exact(&mut head).await.ok()?;
    let mut body = vec![0; (&head[1..]).get_u32() as usize - 4];
    socket.read_exact(&mut body).await.ok()?;
    body.pop();
    Some(String::from_utf8(body).unwrap())
}
