//! The signals that end the daemon (01 §18.3).
//!
//! SIGINT, SIGTERM and SIGQUIT mean the same. `main` installs the listener before anything else
//! starts and receives twice: the first signal starts the orderly stop, a second one ends
//! everything at once.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Listens to the termination signals; from its installation on they no longer kill us.
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

    /// The next termination signal. Cancel-safe. Two of one kind that arrive together may be
    /// seen as one, as signals are.
    pub(crate) async fn recv(&mut self) -> Signal {
        // The streams end only with the runtime, so `None` cannot be told from never.
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
