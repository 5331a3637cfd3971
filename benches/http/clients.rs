//! Clients with a kept connection each, which ask again as soon as they have the answer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream as Plain};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const REQUEST: &[u8] = b"GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// An answer is far smaller.
const ROOM: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer to the request, all of it.
pub fn whole_answer(port: u16) -> anyhow::Result<Vec<u8>> {
    let mut stream = Plain::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let (mut answer, mut filled) = (vec![0; ROOM], 0);
    loop {
        let rest = answer.get_mut(filled..).context("a long answer")?;
        let read = stream.read(rest)?;
        ensure!(read > 0, "the server has left");
        filled += read;
        if is_whole(answer.get(..filled).unwrap_or_default())? {
            answer.truncate(filled);
            return Ok(answer);
        }
    }
}

/// Times of `requests` requests of all clients together.
pub fn ask(
    runtime: &Runtime,
    port: u16,
    clients: usize,
    requests: usize,
) -> anyhow::Result<Vec<Duration>> {
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for stream in connect(port, clients).await? {
            tasks.spawn(converse(stream, requests.div_ceil(clients)));
        }
        let mut times = Vec::with_capacity(requests);
        while let Some(of_one) = tasks.join_next().await {
            times.extend(of_one??);
        }
        Ok(times)
    })
}

/// All connections are open before the first request.
async fn connect(port: u16, clients: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(clients);
    for _ in 0..clients {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    Ok(streams)
}

async fn converse(mut stream: TcpStream, requests: usize) -> anyhow::Result<Vec<Duration>> {
    let (mut times, mut answer) = (Vec::with_capacity(requests), vec![0; ROOM]);
    for _ in 0..requests {
        let began = Instant::now();
        stream.write_all(REQUEST).await?;
        let mut filled = 0;
        loop {
            let rest = answer.get_mut(filled..).context("a long answer")?;
            let read = stream.read(rest).await?;
            ensure!(read > 0, "the server has left");
            filled += read;
            if is_whole(answer.get(..filled).unwrap_or_default())? {
                break;
            }
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Whether an answer has arrived, which must be a success with a length.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let Some(end) = memmem::find(answer, b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = answer.split_at(end + 4);
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    let value = memmem::find(head, LENGTH).and_then(|at| head.get(at + LENGTH.len()..));
    let digits = value.context("no length")?.iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Ok(body.len() >= length)
}
