//! The old content of PGDATA, set aside by the wipe and deleted after the start, when the disk is
//! free.

use super::pgdata::Wiped;

/// Trash that is still to be deleted.
#[derive(Debug, Default)]
pub(crate) struct Leftovers(Vec<Wiped>);

impl Leftovers {
    /// Keeps the trash until the start is over.
    pub(crate) fn keep(&mut self, wiped: Wiped) {
        self.0.push(wiped);
    }

    /// Deletes all trash on a thread of its own. The next start finds and deletes what is left when
    /// the process ends.
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
