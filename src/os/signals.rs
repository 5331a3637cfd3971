//! The signals that end the daemon (01 §18.3).
//!
//! SIGINT, SIGTERM and SIGQUIT mean the same. `main` installs the listener before anything else
//! starts and receives twice: the first signal starts the orderly stop, the second one ends
//! everything at once.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Listens for the termination signals; once installed, they no longer kill this process.
#[derive(Debug)]
pub(crate) struct TerminationSignals {
    int: unix::Signal,
    term: unix::Signal,
    quit: unix::Signal,
}

impl TerminationSignals {
    /// Installs the handlers. Needs a runtime.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next termination signal. Cancel-safe. Two signals of one kind that arrive
    /// together may be seen as one.
    pub(crate) async fn recv(&mut self) -> Signal {
        // The streams end only with the runtime; then this never returns.
        tokio::select! {
            Some(()) = self.int.recv() => Signal::SIGINT,
            Some(()) = self.term.recv() => Signal::SIGTERM,
            Some(()) = self.quit.recv() => Signal::SIGQUIT,
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_which_signal_came() {
        let mut signals = TerminationSignals::install().unwrap();
        for sent in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            nix::sys::signal::raise(sent).unwrap();
            assert_eq!(signals.recv().await, sent);
        }
    }
}
