//! The registry of our own children.
//!
//! As PID 1 (or subreaper) the daemon inherits orphans and has to reap them, but `waitpid(-1)`
//! would also take the status of a child that a task waits for. Therefore every child is spawned
//! here: the registry lock is held over spawn and entry, and [`Children::reap_orphans`] takes,
//! under the same lock, only zombies that are not in the registry.
//!
//! A child inherits our environment except the variables of [`withheld`], which are our own
//! credentials, channels and flags. A child gets one of them only if its spawner sets it on the command,
//! so that a new kind of child gets none.
//!
//! Invariant: from its spawn until it is reaped a child's number is in the registry, even if its
//! [`RegisteredChild`] was dropped without a wait.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use parking_lot::{Mutex, MutexGuard};
use rustix::process::set_parent_process_death_signal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::pidfd::ProcessHandle;
use super::procs::{self, Process};
use crate::env::{
    self, FAILPOINTS, JOURNAL_STREAM, NOTIFY_SOCKET, SECRETS, WATCHDOG_PID, WATCHDOG_USEC,
};

/// Variables of our environment that no child inherits, besides [`SECRETS`]: Postgres built
/// with systemd would report to our supervisor, the stderr of a child is not the stream of journald,
/// and failpoints are for this process (01 §2).
const CHANNELS: [&str; 8] = [
    NOTIFY_SOCKET,
    WATCHDOG_USEC,
    WATCHDOG_PID,
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    JOURNAL_STREAM,
    FAILPOINTS,
];

/// How long to wait for the death of a helper that was killed at its deadline.
const REAP: Duration = Duration::from_secs(1);

/// Handle to the registry of this process.
#[derive(Clone, Debug)]
pub struct Children(Arc<Mutex<Registry>>);

/// One registry for the whole process: with two registries, the sweep of one would take the
/// children of the other for orphans.
static ALL: LazyLock<Children> = LazyLock::new(|| Children(Arc::default()));

#[derive(Debug, Default)]
struct Registry {
    /// Process id and the spawn it belongs to: the id can be in use again before the entry of its
    /// former process is removed.
    entries: HashMap<i32, u64>,
    spawned: u64,
    /// Children dropped without a wait; the next sweep after their end reaps them.
    abandoned: Vec<(i32, u64, Child)>,
    /// Children must not outlive this process, see [`Children::end_with_us`].
    end_with_us: bool,
}

/// A child of ours. Dropping it neither kills the process (unless
/// [`RegisteredChild::kill_on_drop`]) nor leaks a zombie.
#[derive(Debug)]
pub struct RegisteredChild {
    children: Children,
    pid: i32,
    entry: u64,
    /// `None` only during the drop.
    child: Option<Child>,
    status: Option<ExitStatus>,
    kill_on_drop: bool,
}

/// Status and output of a short helper program.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, cut at the limit.
    pub stdout: Vec<u8>,
    /// Standard error, cut at the limit.
    pub stderr: Vec<u8>,
}

/// Why a short helper program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("could not start `{program}`: {error}")]
    Spawn {
        /// The program as it was named.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It was still running at its deadline and was killed.
    #[error("`{program}` did not end within {limit:?} and was killed")]
    TimedOut {
        /// The program as it was named.
        program: String,
        /// The deadline.
        limit: Duration,
    },
    /// Its status could not be read.
    #[error("could not wait for `{program}`: {error}")]
    Wait {
        /// The program as it was named.
        program: String,
        /// Why.
        error: io::Error,
    },
}

impl Default for Children {
    fn default() -> Self {
        Self::new()
    }
}

impl Children {
    /// The registry of this process. Handles are passed on rather than made where they are needed,
    /// so that a signature shows which code starts processes.
    pub fn new() -> Self {
        ALL.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock()
    }

    /// From now on the kernel ends every child when this process is killed: for a process without a
    /// successor, such as `compute_ctl dev`. A supervisor of a compute has a successor, which finds
    /// the remaining processes.
    pub fn end_with_us(&self) {
        self.lock().end_with_us = true;
    }

    /// Starts `command` in a process group of its own, so that a Ctrl-C on our terminal reaches
    /// only this process, which then ends its children in order.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, mut command: Command) -> io::Result<RegisteredChild> {
        command.process_group(0);
        withhold(command.as_std_mut());
        let mut registry = self.lock();
        registry.bury_abandoned();
        if registry.end_with_us {
            die_with_parent(&mut command);
        }
        #[expect(clippy::disallowed_methods, reason = "the one place: it registers the child")]
        let child = command.spawn()?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(|| io::Error::other("a child without a process id"))?;
        registry.spawned += 1;
        let entry = registry.spawned;
        registry.entries.insert(pid, entry);
        drop(registry);
        Ok(RegisteredChild {
            children: self.clone(),
            pid,
            entry,
            child: Some(child),
            status: None,
            kill_on_drop: false,
        })
    }

    /// Runs a short helper to its end: stdin empty, at most `max_bytes` kept of each output
    /// (the rest is read and thrown away), killed with its process group after `limit`.
    ///
    /// # Errors
    /// See [`RunError`]. A non-zero exit is not an error here.
    pub async fn run(
        &self,
        mut command: Command,
        limit: Duration,
        max_bytes: usize,
    ) -> Result<Output, RunError> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.spawn(command) {
            Ok(child) => child,
            Err(error) => return Err(RunError::Spawn { program, error }),
        };
        // Also if the caller drops this future.
        child.kill_on_drop(true);
        let (stdout, stderr) = (child.take_stdout(), child.take_stderr());
        let whole = async {
            tokio::join!(child.wait(), read_some(stdout, max_bytes), read_some(stderr, max_bytes))
        };
        let result = tokio::time::timeout(limit, whole).await;
        match result {
            Ok((Ok(status), stdout, stderr)) => Ok(Output { status, stdout, stderr }),
            Ok((Err(error), ..)) => Err(RunError::Wait { program, error }),
            Err(_) => {
                child.signal_group(Signal::SIGKILL);
                let _ = tokio::time::timeout(REAP, child.wait()).await;
                Err(RunError::TimedOut { program, limit })
            }
        }
    }

    /// Reaps ended children that no task waits for: orphans that the kernel gave us, and children
    /// whose handle was dropped. Returns how many.
    ///
    /// Costs a call per zombie, however many processes the machine has. The kernel shows one zombie
    /// at a time; if that one is registered, the task that waits for it sweeps again after taking
    /// its status, so zombies behind it are not forgotten.
    pub fn reap_orphans(&self) -> usize {
        let mut registry = self.lock();
        let mut reaped = registry.bury_abandoned();
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Some(pid) = waitid(Id::All, peek).ok().and_then(|zombie| zombie.pid())
            && !registry.entries.contains_key(&pid.as_raw())
            && waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok()
        {
            reaped += 1;
        }
        reaped
    }

    /// For the very end of the process: every remaining child, spawned or inherited, gets SIGTERM
    /// and after `limit` SIGKILL (twice), and is reaped. At most three times `limit`.
    pub async fn terminate_rest(&self, limit: Duration) {
        // We inherit the children of a killed one and kill them in the next round.
        for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGKILL] {
            let alive = our_children().filter(|child| !child.zombie);
            let rest: Vec<_> = alive.filter_map(|child| ProcessHandle::open(child.pid)).collect();
            for child in &rest {
                tracing::info!("process {} is still there, sending {signal}", child.pid());
                let _ = child.signal(signal);
            }
            let all_ended = async {
                for child in &rest {
                    child.ended().await;
                }
            };
            let _ = tokio::time::timeout(limit, all_ended).await;
        }
        self.reap_orphans();
    }

    /// Whether `pid` is a child that was spawned here and is not reaped yet.
    pub fn is_registered(&self, pid: i32) -> bool {
        self.lock().entries.contains_key(&pid)
    }
}

/// Variables that no child inherits, and none of the files with secrets either.
fn withheld() -> impl Iterator<Item = &'static str> {
    let secrets = SECRETS.into_iter().flat_map(|(name, file)| [name, file]);
    CHANNELS.into_iter().chain(secrets)
}

/// Removes [`withheld`] and the variables of our flags, such as a connection string with its password,
/// from what a child inherits; variables set on the command stay.
pub(crate) fn withhold(command: &mut std::process::Command) {
    for name in withheld().map(OsString::from).chain(env::own_names()) {
        if !command.get_envs().any(|(set, _)| set == name) {
            command.env_remove(name);
        }
    }
}

/// Our children by `/proc`; none if it cannot be read. Without a child, which the kernel knows, the
/// processes of the machine are not read.
fn our_children() -> impl Iterator<Item = Process> {
    let me = Pid::this().as_raw();
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let all = match waitid(Id::All, peek) {
        Err(Errno::ECHILD) => Vec::new(),
        _ => procs::all().unwrap_or_default(),
    };
    all.into_iter().filter(move |p| p.ppid == me)
}

/// Sends the child SIGINT when the thread that spawned it ends: Postgres then stops all its
/// processes. Threads of the runtime live as long as the process.
#[expect(unsafe_code, reason = "there is no other way to do something in the new process")]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(rustix::process::Signal::INT))?;
        // The parent may have ended before the call.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: these are two plain
    // system calls, and an error without allocation.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Reads to the end of file and keeps the first `max_bytes`. An error counts as the end of file:
/// the program's status says more.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>, max_bytes: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return kept };
    let mut chunk = vec![0; 8 << 10];
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        let room = max_bytes.saturating_sub(kept.len());
        kept.extend(chunk.iter().take(n.min(room)));
    }
    kept
}

impl Registry {
    fn remove(&mut self, pid: i32, entry: u64) {
        if self.entries.get(&pid) == Some(&entry) {
            self.entries.remove(&pid);
        }
    }

    /// Asks each abandoned child for its status and forgets those that have ended.
    fn bury_abandoned(&mut self) -> usize {
        let before = self.abandoned.len();
        for (pid, entry, mut child) in std::mem::take(&mut self.abandoned) {
            if matches!(child.try_wait(), Ok(None)) {
                self.abandoned.push((pid, entry, child));
            } else {
                self.remove(pid, entry);
            }
        }
        before - self.abandoned.len()
    }
}

impl RegisteredChild {
    /// The process id, which cannot mean another process until [`Self::wait`] has returned.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process is known to have ended.
    pub fn is_reaped(&self) -> bool {
        self.status.is_some()
    }

    /// When dropped before its end, kill the child and its process group.
    pub fn kill_on_drop(&mut self, kill: bool) {
        self.kill_on_drop = kill;
    }

    /// Waits for the end and reaps. Cancel-safe; the status is remembered, so that it can be
    /// asked for again.
    ///
    /// # Errors
    /// Waiting failed; happens only if other code reaped the child.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let child = self.child.as_mut().ok_or_else(|| io::Error::other("child is gone"))?;
        let status = child.wait().await?;
        self.status = Some(status);
        self.children.lock().remove(self.pid, self.entry);
        // A sweep that saw this zombie has left it, and those behind it, to us.
        self.children.reap_orphans();
        Ok(status)
    }

    /// Sends `signal` to the process; does nothing when it is reaped.
    ///
    /// # Errors
    /// The signal is not permitted (the child has changed its user).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.is_reaped() {
            return Ok(());
        }
        match signal::kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends `signal` to the child's process group; does nothing when the child is reaped,
    /// because the number may then mean another group. Best effort.
    pub fn signal_group(&self, signal: Signal) {
        if !self.is_reaped() {
            let _ = signal::killpg(Pid::from_raw(self.pid), signal);
        }
    }

    /// The read end of stdout, once, if it was piped.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.as_mut().and_then(|c| c.stdout.take())
    }

    /// The read end of stderr, once, if it was piped.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.as_mut().and_then(|c| c.stderr.take())
    }
}

impl Drop for RegisteredChild {
    fn drop(&mut self) {
        if self.is_reaped() {
            return;
        }
        if self.kill_on_drop {
            self.signal_group(Signal::SIGKILL);
        }
        if let Some(child) = self.child.take() {
            self.children.lock().abandoned.push((self.pid, self.entry, child));
        }
    }
}

#[cfg(test)]
mod tests;
