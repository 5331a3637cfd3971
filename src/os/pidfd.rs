//! A handle to a process that is not our child; its number cannot come to mean another process.
//!
//! Used for the processes of a killed predecessor and for adopted backends. If the kernel (or a
//! sandbox) has no pidfds, the start time identifies the process and its end is polled.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::procs;

/// Polling interval if there are no pidfds.
const POLL: Duration = Duration::from_millis(20);

/// A reference to one process.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    pid: i32,
    started: u64,
    fd: Option<AsyncFd<OwnedFd>>,
}

impl ProcessHandle {
    /// Opens `pid`; `None` if there is no such process (any more). Needs a runtime.
    ///
    /// The caller checks *afterwards* that this is the process it means.
    pub(crate) fn open(pid: i32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok();
        let fd = fd.and_then(register);
        let started = procs::get(pid)?.started;
        Some(Self { pid, started, fd })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process has ended: it is gone, or a zombie that waits for its parent.
    fn is_over(&self) -> bool {
        procs::get(self.pid).is_none_or(|p| p.zombie || p.started != self.started)
    }

    /// Sends `signal`; a process that has ended is not an error.
    ///
    /// # Errors
    /// The signal is not permitted (the process belongs to another user).
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match (&self.fd, rustix_signal(signal)) {
            (Some(fd), Some(number)) => {
                pidfd_send_signal(fd.get_ref(), number).map_err(|e| e.raw_os_error())
            }
            _ if self.is_over() => Ok(()),
            _ => signal::kill(nix::unistd::Pid::from_raw(self.pid), signal).map_err(|e| e as i32),
        };
        match sent {
            Err(code) if code != nix::libc::ESRCH => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    /// Waits until the process has ended. Cancel-safe.
    pub(crate) async fn ended(&self) {
        if let Some(fd) = &self.fd
            && fd.readable().await.is_ok()
        {
            return;
        }
        let mut tick = tokio::time::interval(POLL);
        while !self.is_over() {
            tick.tick().await;
        }
    }

    /// Waits until the process has ended, at most `limit`. Returns whether it has.
    pub(crate) async fn ended_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }
}

/// Registers the descriptor with the runtime, for readability.
#[expect(unsafe_code, reason = "tokio takes descriptors only on the caller's word")]
pub(super) fn register(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always gives the same number, and the `AsyncFd` owns it
    // until it closes it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
}

/// Converts the signals that this crate sends to processes that are not its children.
fn rustix_signal(signal: Signal) -> Option<rustix::process::Signal> {
    Some(match signal {
        Signal::SIGINT => rustix::process::Signal::INT,
        Signal::SIGQUIT => rustix::process::Signal::QUIT,
        Signal::SIGTERM => rustix::process::Signal::TERM,
        Signal::SIGKILL => rustix::process::Signal::KILL,
        _ => return None,
    })
}
