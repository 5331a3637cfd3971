//! A process that is not our child, held so that its number cannot come to mean another one.
//!
//! Used for what a killed predecessor left behind and for adopted backends. Where the kernel
//! (or a sandbox) has no pidfds, the start time of the process stands in for them and its end
//! is polled.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::procs;

/// How often a process is looked at where there are no pidfds.
const POLL: Duration = Duration::from_millis(20);

/// A reference to one process.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    pid: i32,
    started: u64,
    fd: Option<AsyncFd<OwnedFd>>,
}

impl ProcessHandle {
    /// Takes hold of `pid`; `None` if there is no such process (any more). Needs a runtime.
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

    /// Ended: gone, or a zombie that waits for its parent.
    fn is_over(&self) -> bool {
        procs::get(self.pid).is_none_or(|p| p.zombie || p.started != self.started)
    }

    /// Sends `signal`; a process that has ended is no error.
    ///
    /// # Errors
    /// We may not (it belongs to another user).
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

/// Readiness to be read, for the runtime.
#[expect(unsafe_code, reason = "tokio takes descriptors only on the caller's word")]
pub(super) fn register(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, always gives the same number, and the `AsyncFd` owns it
    // until it closes it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
}

/// The signals that this crate sends to processes of others.
fn rustix_signal(signal: Signal) -> Option<rustix::process::Signal> {
    Some(match signal {
        Signal::SIGINT => rustix::process::Signal::INT,
        Signal::SIGQUIT => rustix::process::Signal::QUIT,
        Signal::SIGTERM => rustix::process::Signal::TERM,
        Signal::SIGKILL => rustix::process::Signal::KILL,
        _ => return None,
    })
}
