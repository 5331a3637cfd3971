//! A process under measurement: start, log, memory, end.
//!
//! A blocking thread reads stderr until a line shows that the state is reached: that costs the
//! process nothing, while polling its API every millisecond would.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

/// No step takes that long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A child of the benchmark; killed when dropped.
pub struct Process {
    child: Child,
    began: Instant,
    reached: Receiver<Instant>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; `line` is the log line of the state to reach.
    pub fn start(mut command: Command, line: &'static str) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/");
        let began = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no reaper")]
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (sender, reached) = mpsc::sync_channel(1);
        let log = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(stderr);
            let mut text = Vec::new();
            while matches!(lines.read_until(b'\n', &mut text), Ok(1..)) {
                let now = Instant::now();
                let read = String::from_utf8_lossy(&text);
                if read.contains(line) {
                    // Sent once; the channel has room for it.
                    let _ = sender.try_send(now);
                }
                copy.lock().push_str(&read);
                text.clear();
            }
        });
        Ok(Self { child, began, reached, log, reader: Some(reader) })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// The time from before the exec to the line.
    pub fn reached(&self) -> anyhow::Result<Duration> {
        match self.reached.recv_timeout(PATIENCE) {
            Ok(when) => Ok(when - self.began),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended early:\n{}", self.log()),
            Err(RecvTimeoutError::Timeout) => bail!("it did not get there:\n{}", self.log()),
        }
    }

    /// A line of its `/proc/<pid>/status`, in MiB.
    pub fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no such line")?;
        Ok(kib.trim().parse::<f64>()? / 1024.0)
    }

    /// Sends `signal`; the process is still there, or a zombie.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.pid().cast_signed()), signal)?)
    }

    /// Sends `signal` and waits for the end.
    pub fn stop(mut self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            pause(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// `GET path` on a loopback port; the whole answer.
pub fn get(port: u16, path: &str) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The pause of a poll, for conditions without an event.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "no runtime's worker, and nothing to wait on")]
    std::thread::sleep(time);
}
