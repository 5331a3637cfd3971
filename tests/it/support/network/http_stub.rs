//! An HTTP server with prescribed answers, faults included, for the endpoint storage and the
//! gateway of extensions. It sends raw bytes, because a real server would not send wrong lengths.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A proper answer.
    Answer(u16, Vec<u8>),
    /// The body ends in the middle.
    Truncated(Vec<u8>),
    /// `Content-Length` has the first value, the body is the second.
    Lie(u64, Vec<u8>),
    /// The body stops in the middle, and the connection stays.
    Stalled(Vec<u8>),
    /// The connection is reset without an answer.
    Reset,
    /// Waits for [`HttpStub::release`], then gives the inner answer.
    Held(Box<Reply>),
}

impl Reply {
    pub fn held(self) -> Self {
        Self::Held(Box::new(self))
    }
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

#[derive(Clone)]
pub struct HttpStub {
    pub address: String,
    reply: Arc<Mutex<Reply>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    released: watch::Sender<u32>,
}

impl HttpStub {
    pub async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Self {
            address: listener.local_addr().unwrap().to_string(),
            reply: Arc::new(Mutex::new(reply)),
            asked: Arc::default(),
            released: watch::Sender::new(0),
        };
        let server = stub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        stub
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the answer from now on.
    pub fn reply(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    /// Releases the requests that are held now.
    pub fn release(&self) {
        self.released.send_modify(|times| *times += 1);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }

    /// Request lines so far, without the protocol.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Waits for the request with this number, counted from 1.
    pub async fn wait_for(&self, number: usize) -> Asked {
        crate::support::assertions::eventually("a request to the stub", || self.count() >= number)
            .await;
        self.asked()[number - 1].clone()
    }

    /// One request per connection. An error means that the client disconnected.
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            (stream.read_buf(&mut bytes).await.ok()? > 0).then_some(())?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
        let mut asked = Asked { line, head, body: bytes.split_off(end) };
        let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
        while asked.body.len() < length {
            (stream.read_buf(&mut asked.body).await.ok()? > 0).then_some(())?;
        }
        let mut released = self.released.subscribe();
        self.asked.lock().unwrap().push(asked);
        let mut reply = self.reply.lock().unwrap().clone();
        while let Reply::Held(inside) = reply {
            released.changed().await.ok()?;
            reply = *inside;
        }
        let stalls = matches!(reply, Reply::Stalled(_));
        let (code, length, body) = match reply {
            Reply::Answer(code, body) => (code, body.len() as u64, body),
            Reply::Truncated(body) | Reply::Stalled(body) => {
                (200, body.len() as u64, body[..body.len() / 2].to_vec())
            }
            Reply::Lie(length, body) => (200, length, body),
            Reply::Reset => {
                stream.set_zero_linger().ok()?;
                return None;
            }
            Reply::Held(_) => return None,
        };
        let reason = reqwest::StatusCode::from_u16(code).unwrap();
        let head = format!(
            "HTTP/1.1 {code} {}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
            reason.canonical_reason().unwrap_or_default()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
        if stalls {
            released.changed().await.ok()?;
        }
        stream.shutdown().await.ok()?;
        // The client may still write; closing now would reset the connection under the answer.
        let rest = stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        Some(())
    }
}
