//! A start that must be refused: exit code, message, and no effect.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::assertions::PATIENCE;
use crate::support::bed::{Bed, names, put};
use crate::support::process::Compute;

/// The pause between two connections to the ports.
const POLL: Duration = Duration::from_millis(2);

/// The exit status and output of a process that ended early.
#[derive(Debug)]
pub struct Refusal {
    pub code: Option<i32>,
    pub stderr: String,
}

/// Starts a compute that must end by itself, and checks that it never opens a port.
pub async fn try_start(bed: &Bed, args: &[String], env: &[(&str, &str)]) -> Refusal {
    let mut compute = Compute::spawn(bed, args, env);
    let deadline = Instant::now() + PATIENCE;
    while compute.is_alive() {
        for port in [bed.external_port, bed.internal_port] {
            let open = TcpStream::connect(("127.0.0.1", port)).is_ok();
            assert!(!open, "port {port} is open\n{}", compute.log());
        }
        assert!(Instant::now() < deadline, "it did not end\n{}", compute.log());
        tokio::time::sleep(POLL).await;
    }
    let code = compute.wait_exit().await.code();
    let stderr = compute.log();
    assert!(!stderr.contains("HTTP servers are listening"), "{stderr}");
    Refusal { code, stderr }
}

impl Refusal {
    /// The error that it ended with; the exit code must be that of an error of start-up.
    #[track_caller]
    pub fn error(&self) -> &str {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        let error = self.stderr.split_once("Error: ").map(|(_, error)| error);
        let error = error.unwrap_or_else(|| panic!("no `Error:` in\n{}", self.stderr));
        assert_said_once(error);
        error
    }
}

/// An error is one sentence with its causes, each of them once.
#[track_caller]
fn assert_said_once(error: &str) {
    assert!(!error.contains("Caused by:"), "{error}");
    let mut parts: Vec<_> = error.trim_end().split(": ").filter(|part| part.len() > 12).collect();
    let all = parts.len();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), all, "a part is there twice: {error}");
}

/// A data directory with a file that a wipe would remove.
#[derive(Debug)]
pub struct Marked(PathBuf);

impl Marked {
    pub fn put(bed: &Bed) -> Self {
        let pgdata = bed.pgdata();
        put(&pgdata.join("PG_VERSION"), "15\n");
        put(&pgdata.join("base/marker"), "mine");
        Self(pgdata)
    }

    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!(names(&self.0), ["PG_VERSION", "base"]);
        assert_eq!(fs::read_to_string(self.0.join("base/marker")).unwrap(), "mine");
    }

    #[track_caller]
    pub fn assert_wiped(&self) {
        assert!(!self.0.join("base/marker").exists(), "the old content is still there");
    }
}
