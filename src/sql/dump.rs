//! The schema of one database as SQL text: the output of `pg_dump`, passed on unchanged (03 §5.5,
//! 05 §15.2).
//!
//! A task owns the child. The task ends when `pg_dump` has ended, when the client no longer takes
//! the output, or at a deadline; by then the child has ended as well. Only [`Piece::Complete`]
//! marks a whole dump, so output that ends in any other way cannot be taken for one.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::sys::signal::Signal;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::footprint::Footprint;
use super::options::child_options;
use crate::os::children::{Children, RegisteredChild};
use crate::postgres::client::Address;
use crate::postgres::install::PgInstall;

const PROGRAM: &str = "pg_dump";
/// `application_name` of the dump.
const APPLICATION_NAME: &str = "compute_ctl:pg_dump";
/// Maximum number of bytes in one piece.
const PIECE: usize = 64 << 10;
/// Number of pieces buffered between the child and the client.
const ON_THE_WAY: usize = 2;
/// A longer line on stderr is logged in parts.
const LOG_LINE: u64 = 4096;
/// Limit from the end of the output to the end of the program.
const END: Duration = Duration::from_secs(5);

/// How long a dump may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpLimits {
    /// For `pg_dump` without output, which waits for locks that users hold (03 §5.5).
    pub silence: Duration,
    /// For a client that does not take the next piece, which keeps the snapshot open.
    pub client: Duration,
}

impl Default for DumpLimits {
    fn default() -> Self {
        Self { silence: Duration::from_secs(300), client: Duration::from_secs(60) }
    }
}

/// The database to dump, and the means to do it.
#[derive(Debug)]
pub(crate) struct DumpRequest<'a> {
    /// The installation with `pg_dump` beside its `postgres`.
    pub install: &'a PgInstall,
    /// The registry of the child.
    pub children: &'a Children,
    /// The address of Postgres.
    pub address: &'a Address,
    /// Name of the database, which may have any characters.
    pub database: &'a str,
    /// Deadlines.
    pub limits: DumpLimits,
}

/// Why a dump did not begin.
#[derive(Debug, Error)]
pub(crate) enum DumpError {
    /// `--connstr` lacks host, port or user.
    #[error("--connstr does not name host, port and user, which pg_dump needs")]
    Address,
    /// The program could not be started.
    #[error("could not start {program}: {error}")]
    Start {
        /// Its path.
        program: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The program ended without output; the log has its stderr.
    #[error("pg_dump gave no output")]
    NoOutput,
}

/// Why a dump that was begun is not whole.
#[derive(Debug, Error)]
enum Broken {
    #[error("the client no longer takes the output")]
    ClientGone,
    #[error("the client took nothing within {0:?}")]
    ClientStalled(Duration),
    #[error("no output within {0:?}")]
    Silent(Duration),
    #[error("the output cannot be read: {0}")]
    Read(io::Error),
    #[error("it did not end within {END:?} after its output")]
    NoEnd,
    #[error("it ended with {0}")]
    Status(ExitStatus),
}

/// A part of the output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The dump is whole. No piece follows.
    Complete,
}

/// A dump in progress. Dropping it ends the child.
#[derive(Debug)]
pub(crate) struct Dump {
    /// The first bytes.
    pub first: Bytes,
    /// The other bytes. If the channel ends without [`Piece::Complete`], the dump is not whole.
    pub rest: mpsc::Receiver<Piece>,
}

/// Starts a dump and waits for its first bytes.
pub(crate) async fn start(request: DumpRequest<'_>) -> Result<Dump, DumpError> {
    let DumpRequest { install, children, address, database, limits } = request;
    let (Some(host), Some(port), Some(user)) = (&address.host, address.port, &address.user) else {
        return Err(DumpError::Address);
    };
    let mut command = address.command(install, PROGRAM);
    command
        .args(["--host", host, "--port", &port.to_string(), "--username", user])
        .args(["--schema-only", "--no-password"])
        // Not on the command line, where a name with `=` in it is a connection string.
        .env("PGDATABASE", database)
        // Outrank what users attach to databases and roles (05 §3.1, W28).
        .env("PGOPTIONS", child_options(install.version))
        // The activity monitor recognises our own sessions by this name.
        .env("PGAPPNAME", APPLICATION_NAME)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start_error =
        |error| DumpError::Start { program: install.program(PROGRAM).display().to_string(), error };
    let footprint = Footprint::begin(database);
    let mut child = children.spawn(command).map_err(start_error)?;
    child.kill_on_drop(true);
    let (Some(stdout), Some(stderr)) = (child.take_stdout(), child.take_stderr()) else {
        return Err(start_error(io::Error::other("its output is not connected")));
    };
    let (pieces, mut rest) = mpsc::channel(ON_THE_WAY);
    let pump = Pump { pieces, limits };
    // Not aborted with the dump, because this task ends the child. The end of the process waits
    // for the child.
    tokio::spawn(async move {
        let _footprint = footprint;
        let log = AbortOnDropHandle::new(tokio::spawn(log_lines(stderr)));
        pump.run(child, stdout).await;
        // Another process may hold its stderr open.
        let _ = timeout(END, log).await;
    });
    match rest.recv().await {
        Some(Piece::Bytes(first)) => Ok(Dump { first, rest }),
        Some(Piece::Complete) | None => Err(DumpError::NoOutput),
    }
}

/// Moves the output of the child to the client.
struct Pump {
    pieces: mpsc::Sender<Piece>,
    limits: DumpLimits,
}

impl Pump {
    async fn run(self, mut child: RegisteredChild, stdout: ChildStdout) {
        let whole = async {
            self.copy(stdout).await?;
            let status = timeout(END, child.wait()).await.map_err(|_| Broken::NoEnd)?;
            let status = status.map_err(Broken::Read)?;
            if !status.success() {
                return Err(Broken::Status(status));
            }
            self.send(Piece::Complete).await
        };
        let outcome = tokio::select! {
            outcome = whole => outcome,
            () = self.pieces.closed() => Err(Broken::ClientGone),
        };
        if let Err(broken) = outcome {
            tracing::warn!("pg_dump is given up: {broken}");
            end(&mut child).await;
        }
        // The channel ends with this task, after the child.
    }

    async fn copy(&self, mut stdout: impl AsyncRead + Unpin) -> Result<(), Broken> {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let mut space = (&mut stdout).take(PIECE as u64);
            let read = timeout(self.limits.silence, space.read_buf(&mut buffer)).await;
            match read.map_err(|_| Broken::Silent(self.limits.silence))?.map_err(Broken::Read)? {
                0 => return Ok(()),
                _ => self.send(Piece::Bytes(buffer.split().freeze())).await?,
            }
        }
    }

    async fn send(&self, piece: Piece) -> Result<(), Broken> {
        let sent = timeout(self.limits.client, self.pieces.send(piece)).await;
        sent.map_err(|_| Broken::ClientStalled(self.limits.client))?.map_err(|_| Broken::ClientGone)
    }
}

/// On SIGTERM `pg_dump` cancels its query. Otherwise its session in Postgres would go on waiting,
/// with locks on all relations it has read so far.
async fn end(child: &mut RegisteredChild) {
    let _ = child.signal(Signal::SIGTERM);
    if timeout(END, child.wait()).await.is_err() {
        child.signal_group(Signal::SIGKILL);
        let _ = timeout(END, child.wait()).await;
    }
}

/// Copies stderr to our log, so that the pipe never fills up.
async fn log_lines(stderr: impl AsyncRead + Unpin) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut stderr).take(LOG_LINE).read_until(b'\n', &mut line).await {
        tracing::warn!("pg_dump: {}", String::from_utf8_lossy(line.trim_ascii_end()));
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ComputeParams;

    /// Longer than a shell takes to start on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Dumps with a shell script as the program.
    async fn dump_by(script: &str) -> Result<Dump, DumpError> {
        dump_within(PATIENCE, script).await
    }

    async fn dump_within(silence: Duration, script: &str) -> Result<Dump, DumpError> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(PROGRAM);
        // Run by a shell, because the kernel refuses to execute a file that this process has open
        // for writing.
        let mut write = std::process::Command::new("/bin/sh");
        let line = r##"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""##;
        assert!(write.args(["-c", line]).arg(&program).arg(script).status().unwrap().success());
        let mut params = ComputeParams::for_tests();
        params.install.postgres = dir.path().join("postgres");
        params.timeouts.dump.silence = silence;
        params.timeouts.dump.client = Duration::from_millis(50);
        let url = url::Url::parse("postgresql://u@h:1/d").unwrap();
        let request = DumpRequest {
            install: &params.install,
            children: &Children::new(),
            address: &Address::of(&url),
            database: "a=b",
            limits: params.timeouts.dump,
        };
        start(request).await
    }

    /// Reads all pieces; true if the dump is whole.
    async fn is_whole(mut dump: Dump) -> bool {
        while let Some(piece) = dump.rest.recv().await {
            if piece == Piece::Complete {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn whole_or_not() {
        let name = dump_by("echo \"$PGDATABASE\"").await.unwrap();
        assert_eq!(name.first, "a=b\n");
        assert!(is_whole(name).await);
        assert!(!is_whole(dump_by("echo begun; exit 1").await.unwrap()).await);
        assert!(!is_whole(dump_by("echo begun; kill -9 $$").await.unwrap()).await);
        match dump_within(Duration::from_secs(1), "echo begun; exec sleep 100").await {
            Ok(silent) => assert!(!is_whole(silent).await),
            // The shell took longer than that to begin.
            Err(error) => assert!(matches!(error, DumpError::NoOutput), "{error}"),
        }
        for script in ["exit 0", "exit 1", "echo no >&2; exit 1"] {
            assert!(matches!(dump_by(script).await, Err(DumpError::NoOutput)), "{script}");
        }
    }

    /// The channel is full, and stays full.
    #[tokio::test]
    async fn a_client_that_stalls_gets_no_whole_dump() {
        let mut dump = dump_by("echo $$; exec cat /dev/zero").await.unwrap();
        while !dump.rest.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut pieces = 0;
        while let Some(piece) = dump.rest.recv().await {
            assert_ne!(piece, Piece::Complete);
            pieces += 1;
        }
        assert_eq!(pieces, ON_THE_WAY);
    }
}
