//! `/autoscaling_metrics`: passed on from a socket in the data directory (03 §9, T8).

use std::path::Path;

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, folder, hand_over};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const SOCKET: &str = "neon-communicator.socket";

/// A communicator that gives the same answer to every correct request.
pub struct Communicator(AbortHandle);

impl Drop for Communicator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Communicator {
    pub fn start(pgdata: &Path, answer: &'static str) -> Self {
        // The path may be too long for an address, so it is bound elsewhere first.
        let short = folder("short");
        let place = short.path().join(SOCKET);
        let listener = UnixListener::bind(&place).unwrap();
        hand_over(&place);
        let _ = std::fs::remove_file(pgdata.join(SOCKET));
        let moved = std::process::Command::new("mv").arg(&place).arg(pgdata).status();
        assert!(moved.unwrap().success());
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (read, mut write) = stream.split();
                let mut lines = BufReader::new(read).lines();
                let mut head = Vec::new();
                while let Ok(Some(line)) = lines.next_line().await
                    && !line.is_empty()
                {
                    head.push(line.to_ascii_lowercase());
                }
                let asked = head.first().is_some_and(|l| l == "get /autoscaling_metrics http/1.1")
                    && head.iter().any(|line| line == "host: localhost");
                let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                let answer = if asked { answer } else { refusal };
                let _ = write.write_all(answer.as_bytes()).await;
            }
        };
        Self(tokio::spawn(serve).abort_handle())
    }
}

/// Status, content type, the extra header, and the body or its error.
async fn fetch(compute: &Compute) -> (u16, String, bool, Result<String, reqwest::Error>) {
    let url = format!("{}/autoscaling_metrics", compute.external);
    let response = compute.http.get(url).send().await.unwrap();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap());
    let kind = kind.to_owned();
    let extra = response.headers().contains_key("x-extra");
    (response.status().as_u16(), kind, extra, response.text().await)
}

const ANSWER: &str = "HTTP/1.1 203 Non-Authoritative Information\r\n\
    content-type: application/text\r\nx-extra: 1\r\ntransfer-encoding: chunked\r\n\r\n\
    b\r\nlfc_hits 7\n\r\n0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\nlfc_hits 7\n\r\n";

async fn scenario(bed: &Bed) {
    let mut compute = bed.start();
    compute.wait_for("running").await;
    let (code, kind, _, body) = fetch(&compute).await;
    let body = body.unwrap();
    assert_eq!((code, &*kind), (500, "application/json"));
    assert!(body.starts_with(r#"{"error":"connecting to communicator control socket: "#), "{body}");

    let communicator = Communicator::start(&bed.pgdata(), ANSWER);
    let (code, kind, extra, body) = fetch(&compute).await;
    assert_eq!((code, &*kind, extra), (203, "application/text", false));
    assert_eq!(body.unwrap(), "lfc_hits 7\n");
    drop(communicator);

    let communicator = Communicator::start(&bed.pgdata(), "gibberish\r\n\r\n");
    let (code, _, _, body) = fetch(&compute).await;
    let text = "{\"error\":\"fetching metrics from Postgres metrics service: ";
    assert_eq!(code, 500);
    assert!(body.unwrap().starts_with(text));
    drop(communicator);

    // An answer that ends early must not look complete.
    let communicator = Communicator::start(&bed.pgdata(), BROKEN);
    let (code, _, _, body) = fetch(&compute).await;
    assert_eq!(code, 200);
    body.unwrap_err();
    drop(communicator);

    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_nothing_left(bed);
}

#[tokio::test]
async fn passed_on() {
    on_one_server(|server| async {
        scenario(&Bed::new(server).await).await;
    })
    .await;
}

#[tokio::test]
async fn from_a_directory_with_a_long_path() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.place_pgdata(&"long".repeat(30));
        assert!(bed.pgdata().as_os_str().len() > 108);
        scenario(&bed).await;
    })
    .await;
}
