//! The agent of an autoscaler, as the document has it. It can also misbehave.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::assertions::PATIENCE;

/// One WebSocket.
pub struct Agent {
    pub socket: WebSocketStream<TcpStream>,
    /// What was said, in the form of the document.
    pub transcript: String,
}

/// The end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// TCP ended without a close frame.
    Dropped,
    /// After a close frame.
    Closed,
}

impl Agent {
    /// Connects, without the handshake of the protocol.
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let url = format!("ws://127.0.0.1:{port}/monitor");
        let (socket, _) = timeout(PATIENCE, client_async(url, stream)).await.unwrap().unwrap();
        Self { socket, transcript: String::new() }
    }

    /// Connects and agrees on a version.
    pub async fn connect(port: u16) -> Self {
        let mut agent = Self::open(port).await;
        agent.say(&json!({"min": 1, "max": 1})).await;
        assert_eq!(agent.hear().await, json!({"version": 1}));
        agent
    }

    /// Sends a text frame.
    pub async fn send(&mut self, text: &str) {
        self.transcript.push_str(&format!("A: {text}\n"));
        self.frame(Message::text(text)).await;
    }

    pub async fn say(&mut self, message: &Value) {
        self.send(&message.to_string()).await;
    }

    pub async fn frame(&mut self, frame: Message) {
        timeout(PATIENCE, self.socket.send(frame)).await.unwrap().unwrap();
    }

    /// The next text; pongs are skipped.
    pub async fn hear(&mut self) -> Value {
        let next = self.next().await;
        next.unwrap_or_else(|gone| panic!("{gone:?} after\n{}", self.transcript))
    }

    /// The next text, or the end.
    pub async fn next(&mut self) -> Result<Value, Gone> {
        loop {
            let frame = timeout(PATIENCE, self.socket.next()).await.expect("a frame or the end");
            match frame {
                Some(Ok(Message::Text(text))) => {
                    self.transcript.push_str(&format!("M: {text}\n"));
                    return Ok(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(_))) => return Err(Gone::Closed),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Gone::Dropped),
            }
        }
    }

    /// The answer with this id; requests for more memory before it are skipped.
    pub async fn answer(&mut self, id: u64) -> Value {
        loop {
            let heard = self.hear().await;
            if heard["type"] != "UpscaleRequest" {
                assert_eq!(heard["id"], id, "{heard}");
                return heard;
            }
        }
    }

    /// Waits for the end; whatever comes before is skipped.
    pub async fn gone(&mut self) -> Gone {
        loop {
            if let Err(gone) = self.next().await {
                return gone;
            }
        }
    }

    /// Sends a health check and waits for its answer.
    pub async fn is_served(&mut self, id: u64) {
        self.send(&message("HealthCheck", &json!({}), id)).await;
        assert_eq!(self.answer(id).await, json!({"type": "HealthCheck", "id": id}));
    }

    pub async fn notify(&mut self, mib: u64, id: u64) {
        self.send(&upscale(mib, id)).await;
    }

    pub async fn ask(&mut self, mib: u64, id: u64) {
        let target = json!({"cpu": 0.5, "mem": mib << 20});
        self.send(&message("DownscaleRequest", &json!({"target": target}), id)).await;
    }

    /// Announces memory; must be confirmed.
    pub async fn grow(&mut self, mib: u64, id: u64) {
        self.notify(mib, id).await;
        assert_eq!(self.answer(id).await, json!({"type": "UpscaleConfirmation", "id": id}));
    }

    /// Asks to shrink; returns `Ok` and `Status`.
    pub async fn shrink(&mut self, mib: u64, id: u64) -> (bool, String) {
        self.ask(mib, id).await;
        let answer = self.answer(id).await;
        assert_eq!(answer["type"], "DownscaleResult", "{answer}");
        (answer["Ok"].as_bool().unwrap(), answer["Status"].as_str().unwrap().to_owned())
    }

    /// Asks to shrink until there are enough samples.
    pub async fn shrink_with_samples(&mut self, mib: u64, mut id: u64) -> (bool, String) {
        loop {
            let (ok, status) = self.shrink(mib, id).await;
            if !status.contains("haven't received enough") {
                return (ok, status);
            }
            id += 2;
        }
    }
}

/// A message with its members in the usual order.
pub fn message(kind: &str, content: &Value, id: u64) -> String {
    format!(r#"{{"type":"{kind}","content":{content},"id":{id}}}"#)
}

pub fn upscale(mib: u64, id: u64) -> String {
    let granted = json!({"cpu": 2.0, "mem": mib << 20});
    message("UpscaleNotification", &json!({"granted": granted}), id)
}
