//! Signals to the program (01 §18.3).
//!
//! | kind | signals | effect |
//! |---|---|---|
//! | end | SIGINT, SIGTERM, SIGQUIT | the compute ends |
//! | hangup | SIGHUP | decided by the caller |
//! | held back | all others that would end or stop the program and are not its own fault | a line in the log |
//! | untouched | faults such as SIGSEGV; SIGPIPE; those without effect, such as SIGWINCH | as usual |
//!
//! Hangup and the held-back signals are blocked before the first thread starts, so no moment
//! exists in which one of them ends the supervisor and leaves Postgres alone. They are read from a
//! descriptor. The signals that end the compute are not blocked: until their handlers are there,
//! nothing was begun, and they end the process at once.
//!
//! Invariant: a child gets an empty mask and default dispositions. The standard library empties
//! the mask of a child, the kernel resets handlers, and this module ignores no signal: a launcher's
//! ignored signals are reset at the start of `main`. Of SIGPIPE, which is ignored, the standard
//! library takes care as well. Signals 32 and 33 are the C library's own; it ignores them in a new
//! process, handles 33 once there are threads, and leaves 32 at its default, which would end the
//! program: it is ignored here.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{self, SignalKind, signal};

use super::pidfd;

/// Held back in every form of the program.
const HELD_BACK: [c_int; 13] = [
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// The C library cancels threads with it, which this program does not do.
const OF_THE_LIBRARY: c_int = 32;

/// Bytes of one signal in the descriptor (`struct signalfd_siginfo`); it begins with the number.
const RECORD: usize = 128;

/// What the launcher had set and this program has put right.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// SIGHUP was ignored, as `nohup` does.
    pub hangup_ignored: bool,
}

/// Empties the signal mask and resets ignored signals. Call it first in `main`.
pub fn put_right() -> Inherited {
    let hangup_ignored = is_ignored(libc::SIGHUP);
    // Fails only for an invalid request.
    let _ = SigSet::empty().thread_set_mask();
    for number in (1..=libc::SIGRTMAX()).filter(|number| *number != libc::SIGPIPE) {
        if is_ignored(number) {
            reset(number);
        }
    }
    ignore_by_system_call(OF_THE_LIBRARY);
    Inherited { hangup_ignored }
}

/// Blocks SIGHUP and the held-back signals; [`Signals`] reads them. Call it before the first thread
/// starts. At a terminal (`job_control`) Ctrl-Z suspends the program as usual.
///
/// # Errors
/// The kernel refuses the mask.
pub fn hold_back(job_control: bool) -> io::Result<()> {
    Ok(held_back(job_control).thread_block()?)
}

fn held_back(job_control: bool) -> SigSet {
    let suspend = (!job_control).then_some(libc::SIGTSTP);
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    set(HELD_BACK.into_iter().chain(suspend).chain(real_time))
}

#[expect(unsafe_code, reason = "nix has no names for real-time signals")]
fn set(numbers: impl Iterator<Item = c_int>) -> SigSet {
    let mut raw = *SigSet::empty().as_ref();
    for number in numbers {
        // SAFETY: `raw` is an initialized set; a number that is not a signal is an error without
        // effect.
        unsafe { libc::sigaddset(&raw mut raw, number) };
    }
    // SAFETY: `raw` was initialized by `SigSet::empty`.
    unsafe { SigSet::from_sigset_t_unchecked(raw) }
}

#[expect(unsafe_code, reason = "nix has no names for real-time signals, and no query")]
fn is_ignored(number: c_int) -> bool {
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the current one to `old`, which is zeroed
    // and so initialized even if the call fails.
    unsafe {
        libc::sigaction(number, std::ptr::null(), old.as_mut_ptr()) == 0
            && old.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[expect(unsafe_code, reason = "nix has no names for real-time signals")]
fn reset(number: c_int) {
    // SAFETY: the default action has no handler of which anything could be demanded.
    unsafe { libc::signal(number, libc::SIG_DFL) };
}

/// The C library refuses to change its own signals, so the kernel is asked.
#[expect(unsafe_code, reason = "no library has this call for signals of the C library")]
fn ignore_by_system_call(number: c_int) {
    // The kernel's `struct sigaction`: the handler first, then no flags and an empty mask.
    let action: [usize; 4] = [libc::SIG_IGN, 0, 0, 0];
    // SAFETY: the kernel reads at most four words of `action`, and writes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            action.as_ptr(),
            std::ptr::null_mut::<usize>(),
            size_of::<u64>(),
        )
    };
}

/// Signals that have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The compute should end.
    End(Signal),
    /// SIGHUP.
    Hangup,
    /// Held-back signals, for the log.
    Others(Vec<String>),
}

/// Listens for signals. The signals that end the compute no longer kill this process once this
/// exists.
#[derive(Debug)]
pub(crate) struct Signals {
    int: unix::Signal,
    term: unix::Signal,
    quit: unix::Signal,
    held_back: AsyncFd<OwnedFd>,
    /// Read together with a SIGHUP, and not told yet.
    others: BTreeSet<c_int>,
}

impl Signals {
    /// Installs the handlers. Needs a runtime.
    ///
    /// # Errors
    /// A handler cannot be installed, or there is no free descriptor.
    pub(crate) fn install() -> io::Result<Self> {
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let held_back = SignalFd::with_flags(&held_back(false), flags)?;
        let held_back = pidfd::register(held_back.into())
            .ok_or_else(|| io::Error::other("the descriptor for signals is not accepted"))?;
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            held_back,
            others: BTreeSet::new(),
        })
    }

    /// Waits for the next signal. Cancel-safe. Signals of one kind that arrive together may be
    /// seen as one.
    pub(crate) async fn recv(&mut self) -> Received {
        if !self.others.is_empty() {
            return self.told();
        }
        // The streams end only with the runtime; then this never returns.
        tokio::select! {
            biased;
            Some(()) = self.int.recv() => Received::End(Signal::SIGINT),
            Some(()) = self.term.recv() => Received::End(Signal::SIGTERM),
            Some(()) = self.quit.recv() => Received::End(Signal::SIGQUIT),
            numbers = read(&self.held_back) => {
                self.others = numbers;
                if self.others.remove(&libc::SIGHUP) { Received::Hangup } else { self.told() }
            }
        }
    }

    fn told(&mut self) -> Received {
        let numbers = std::mem::take(&mut self.others);
        Received::Others(numbers.into_iter().map(name).collect())
    }
}

/// Everything that can be read at once, at least one signal.
async fn read(fd: &AsyncFd<OwnedFd>) -> BTreeSet<c_int> {
    let mut numbers = BTreeSet::new();
    let mut buffer = [0; RECORD * 16];
    loop {
        let Ok(mut ready) = fd.readable().await else { return std::future::pending().await };
        // `Err` from `try_io` means that nothing is left to read.
        while let Ok(read) =
            ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), buffer.as_mut_slice())?))
        {
            // No such error is known; without it there would be no end.
            let Ok(length) = read else { return std::future::pending().await };
            let (records, _) = buffer.as_chunks::<RECORD>();
            for record in records.iter().take(length / RECORD) {
                if let Some(number) = record.first_chunk().map(|it| c_int::from_ne_bytes(*it)) {
                    numbers.insert(number);
                }
            }
        }
        if !numbers.is_empty() {
            return numbers;
        }
    }
}

fn name(number: c_int) -> String {
    match Signal::try_from(number) {
        Ok(signal) => format!("{signal}, signal {number}"),
        Err(_) => format!("real-time signal {number}"),
    }
}

#[cfg(test)]
mod tests;
