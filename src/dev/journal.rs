//! Records the actions of clients at a stand-in server, for assertions.
//!
//! Clones share the journal. It is bounded: a long-running `compute_ctl dev` drops its oldest
//! entries instead of growing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

/// Number of entries kept; more than any test causes.
const CAPACITY: usize = 10_000;

/// One action of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection was accepted.
    Connected,
    /// The server closed the connection at once, because it was told to refuse it.
    Refused,
    /// The startup parameters, in the order sent.
    Startup(Vec<(String, String)>),
    /// The password, sent because the server asked.
    Password(String),
    /// The text of a command that was executed, by either protocol.
    Command(String),
    /// The connection has ended.
    Closed,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Connected => f.write_str("Connected"),
            Event::Refused => f.write_str("Refused"),
            Event::Startup(parameters) => f.debug_tuple("Startup").field(parameters).finish(),
            // The password may be a real storage token.
            Event::Password(_) => f.write_str("Password([secret])"),
            Event::Command(text) => f.debug_tuple("Command").field(text).finish(),
            Event::Closed => f.write_str("Closed"),
        }
    }
}

/// An [`Event`] with its connection and time.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Number of the connection, from 0 in the order of acceptance.
    pub connection: u64,
    /// Time of the event.
    pub at: Instant,
    /// The event itself.
    pub event: Event,
}

/// A shared, bounded list of [`Entry`].
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<VecDeque<Entry>>>);

impl Journal {
    /// Appends an event of a connection.
    pub fn record(&self, connection: u64, event: Event) {
        let mut entries = self.0.lock();
        if entries.len() >= CAPACITY {
            entries.pop_front();
        }
        entries.push_back(Entry { connection, at: Instant::now(), event });
    }

    /// Everything recorded so far, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().iter().cloned().collect()
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// The executed commands, in order.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        self.select(|event| match event {
            Event::Command(text) => Some(text),
            _ => None,
        })
    }

    /// The passwords that clients sent.
    #[must_use]
    pub fn passwords(&self) -> Vec<String> {
        self.select(|event| match event {
            Event::Password(text) => Some(text),
            _ => None,
        })
    }

    /// The startup parameters of each connection that sent them.
    #[must_use]
    pub fn startups(&self) -> Vec<Vec<(String, String)>> {
        self.select(|event| match event {
            Event::Startup(parameters) => Some(parameters),
            _ => None,
        })
    }

    /// Number of accepted connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.select(|event| matches!(event, Event::Connected).then_some(())).len()
    }

    fn select<T>(&self, pick: impl Fn(Event) -> Option<T>) -> Vec<T> {
        self.0.lock().iter().filter_map(|entry| pick(entry.event.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_without_passwords_in_debug() {
        let journal = Journal::default();
        for _ in 0..=CAPACITY {
            journal.record(0, Event::Connected);
        }
        assert_eq!(journal.connections(), CAPACITY);
        journal.clear();
        journal.record(1, Event::Password("hunter2".to_owned()));
        assert!(!format!("{:?}", journal).contains("hunter2"));
        assert_eq!(journal.passwords(), ["hunter2"]);
    }
}
