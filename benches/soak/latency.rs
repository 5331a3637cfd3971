//! Asks for `/status` for the whole of the run, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Connection;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// Of one request.
const TRIES: usize = 10;

/// The thread that asks.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Latencies>,
}

/// What it has seen.
#[derive(Default)]
pub struct Latencies {
    /// Of the answers, in microseconds, sorted.
    pub micros: Vec<u64>,
    /// Requests without an answer, and answers other than 200.
    pub failures: Vec<String>,
}

impl Watch {
    pub fn start(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut seen = Latencies::default();
            let mut connection = None;
            while !flag.load(SeqCst) {
                match ask(&mut connection, port) {
                    Ok(took) => seen.micros.push(u64::try_from(took.as_micros()).unwrap()),
                    Err(error) => {
                        seen.failures.push(format!("{error:#}"));
                        connection = None;
                    }
                }
                std::thread::park_timeout(PAUSE);
            }
            seen.micros.sort_unstable();
            seen
        });
        Self { over, thread }
    }

    pub fn end(self) -> Latencies {
        self.over.store(true, SeqCst);
        self.thread.thread().unpark();
        self.thread.join().unwrap()
    }
}

/// One request, over the kept connection or, if the server has closed it to make room for others, over
/// a new one. All tries count.
fn ask(connection: &mut Option<Connection>, port: u16) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut tries = 1;
    let code = loop {
        let kept = match connection {
            Some(kept) => kept,
            None => connection.insert(Connection::open(port)?),
        };
        match kept.send("GET", "/status", "") {
            Ok((code, _)) => break code,
            Err(_) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
        *connection = None;
    };
    let took = began.elapsed();
    anyhow::ensure!(code == 200, "/status answered {code}");
    Ok(took)
}
