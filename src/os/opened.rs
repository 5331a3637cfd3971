//! Notices, with inotify, when any process opens certain files.
//!
//! Invariant: the watch is on the files that had the given names when it was made, not on files
//! that take such a name later.
//!
//! To close a watch, the kernel waits until none of its processors uses it any more. That takes 5 to 13
//! ms, longer than the reload that is watched, so no caller waits for it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::pidfd::register;

/// Room for some dozens of events; the next call reads more.
const BUFFER: usize = 1024;

/// A watch on two files.
#[derive(Debug)]
pub(crate) struct OpenedInTurn {
    events: AsyncFd<OwnedFd>,
    first: i32,
    second: i32,
}

impl OpenedInTurn {
    /// Watches from here on. Needs a runtime.
    ///
    /// # Errors
    /// A file is not there, or the system has no more watches.
    pub(crate) fn new(first: &Path, second: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let first = inotify::add_watch(&fd, first, WatchFlags::OPEN)?;
        let second = inotify::add_watch(&fd, second, WatchFlags::OPEN)?;
        let events = register(fd).ok_or_else(|| io::Error::other("no runtime that can wait"))?;
        Ok(Self { events, first, second })
    }

    /// Waits until the second file is opened after the first one was.
    ///
    /// # Errors
    /// The events cannot be read.
    pub(crate) async fn wait(self) -> io::Result<()> {
        let seen = self.seen().await;
        let fd = self.events.into_inner();
        // It ends by itself, and nothing depends on it.
        drop(tokio::task::spawn_blocking(move || drop(fd)));
        seen
    }

    async fn seen(&self) -> io::Result<()> {
        let mut first_seen = false;
        loop {
            let mut ready = self.events.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let read = ready.try_io(|fd| {
                let mut reader = Reader::new(fd.get_ref(), &mut buffer);
                loop {
                    let opened = reader.next()?.wd();
                    if opened == self.first {
                        first_seen = true;
                    } else if opened == self.second && first_seen {
                        return Ok(());
                    }
                }
            });
            // `Err`: no more events for now.
            if let Ok(done) = read {
                return done;
            }
        }
    }
}
