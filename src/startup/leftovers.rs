//! The old content of PGDATA, set aside by the wipe and deleted when nobody waits for the disk.

use super::pgdata::Wiped;

/// Trash that waits for its deletion.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Vec<Wiped>);

impl Leftovers {
    /// Keeps it until the start is over.
    pub(crate) fn keep(&mut self, wiped: Wiped) {
        self.0.push(wiped);
    }

    /// Deletes all of it on a thread of its own. What is not done when the process ends is found
    /// and deleted by the next start.
    pub(crate) fn delete_in_background(&mut self) {
        let trash = std::mem::take(&mut self.0);
        if trash.is_empty() {
            return;
        }
        let delete = move || trash.into_iter().for_each(Wiped::empty_trash);
        if let Err(error) = std::thread::Builder::new().name("trash".to_owned()).spawn(delete) {
            tracing::warn!("could not delete the old data directory, the next start will: {error}");
        }
    }
}
