//! The floor: a server of the same library that does nothing but answer.
//!
//! It is this program again, in a process of its own with a runtime of the same kind, so that the
//! clients take as much from it as from the compute. It runs until its stdin ends.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// The argument that makes this program the server.
pub const ROLE: &str = "bare-server";
/// As many as `compute_ctl` has.
const WORKERS: usize = 2;

/// A running server; stopped when dropped.
pub struct Bare {
    child: Child,
    pub port: u16,
}

impl Bare {
    /// `answer` is what it says to every request.
    pub fn start(answer: &[u8]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ROLE).stdin(Stdio::piped()).stdout(Stdio::piped());
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no reaper")]
        let child = command.spawn()?;
        let mut bare = Self { child, port: 0 };
        let stdin = bare.child.stdin.as_mut().context("stdin is piped")?;
        stdin.write_all(&u32::try_from(answer.len())?.to_be_bytes())?;
        stdin.write_all(answer)?;
        let mut line = String::new();
        BufReader::new(bare.child.stdout.take().context("stdout is piped")?)
            .read_line(&mut line)?;
        bare.port = line.trim().parse().context("the bare server did not start")?;
        Ok(bare)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The server's process.
pub fn run() -> anyhow::Result<()> {
    let mut stdin = std::io::stdin();
    let mut length = [0; 4];
    stdin.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length))?];
    stdin.read_exact(&mut answer)?;
    let (headers, body) = parts(&answer)?;

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    println!("{}", listener.local_addr()?.port());
    runtime.spawn(serve(listener, headers, body));
    stdin.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The headers that the library does not write itself, and the body.
fn parts(answer: &[u8]) -> anyhow::Result<(HeaderMap, Bytes)> {
    let text = std::str::from_utf8(answer)?;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        let name = HeaderName::try_from(name)?;
        if name != CONTENT_LENGTH && name != DATE {
            headers.append(name, HeaderValue::try_from(value.trim())?);
        }
    }
    Ok((headers, Bytes::copy_from_slice(body.as_bytes())))
}

async fn serve(listener: TcpListener, headers: HeaderMap, body: Bytes) {
    while let Ok((stream, _)) = listener.accept().await {
        let (headers, body) = (headers.clone(), body.clone());
        let answer = service_fn(move |_| {
            let mut response = Response::new(Full::new(body.clone()));
            *response.headers_mut() = headers.clone();
            async { Ok::<_, Infallible>(response) }
        });
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let mut connection = http1::Builder::new();
            // The client leaves when it has enough.
            let _ = connection
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}
