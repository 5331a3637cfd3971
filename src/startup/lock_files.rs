//! Removes the lock files of a postmaster that is a zombie.
//!
//! A postmaster that was killed by SIGKILL, as the kernel does when memory runs out, leaves its lock
//! files. The next one ignores those of a process that is gone, but a zombie counts as alive, and the
//! parent that has to reap it, process 1 after the end of our predecessor, may take its time or never
//! do so. A zombie holds neither a socket nor a file.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::os::procs;
use crate::postgres::files::POSTMASTER_PID;

/// More than a lock file has.
const MOST: u64 = 4096;

/// What a postmaster writes to `postmaster.pid`: its number, then, in the fourth and fifth lines,
/// its port and the folder of its first socket, which may be empty.
struct Owner {
    pid: i32,
    socket: Option<(u16, PathBuf)>,
}

impl Owner {
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let port = lines.nth(2).and_then(|port| port.trim().parse().ok());
        let folder = lines.next().map(Path::new).filter(|folder| folder.is_absolute());
        Some(Self { pid, socket: port.zip(folder.map(Path::to_owned)) })
    }
}

/// Removes `postmaster.pid` of `pgdata` and the lock file of the socket that it names, as far as
/// both belong to one zombie. What cannot be removed stays, and Postgres names it.
pub(super) fn remove_of_zombie(pgdata: &Path) {
    let own = pgdata.join(POSTMASTER_PID);
    let Some(owner) = read(&own).and_then(|text| Owner::read(&text)) else { return };
    if !procs::get(owner.pid).is_some_and(|process| process.zombie) {
        return;
    }
    let socket = owner.socket.map(|(port, folder)| folder.join(format!(".s.PGSQL.{port}.lock")));
    let socket = socket.filter(|socket| {
        let named = read(socket).and_then(|text| Owner::read(&text));
        named.is_some_and(|named| named.pid == owner.pid)
    });
    for lock in [Some(own), socket].into_iter().flatten() {
        if fs::remove_file(&lock).is_ok() {
            tracing::warn!(pid = owner.pid, "removed {}, left by a zombie", lock.display());
        }
    }
}

/// The begin of a file, which may be of any kind: tenants reach the data directory.
fn read(path: &Path) -> Option<String> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).ok()?;
    let mut text = String::new();
    file.metadata().ok()?.is_file().then(|| file.take(MOST).read_to_string(&mut text).ok())??;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::process::Child;

    use tempfile::TempDir;

    use super::*;

    /// A process that has ended and is not reaped.
    fn zombie() -> Child {
        #[expect(clippy::disallowed_methods, reason = "no registry, which would reap it")]
        let child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while !procs::get(pid).unwrap().zombie {
            std::thread::yield_now();
        }
        child
    }

    struct Locks {
        dir: TempDir,
        pgdata: PathBuf,
        socket: PathBuf,
    }

    impl Locks {
        fn of(data: u32, socket: u32) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let pgdata = dir.path().join("data");
            fs::create_dir(&pgdata).unwrap();
            let at = dir.path().display();
            fs::write(
                pgdata.join(POSTMASTER_PID),
                format!("{data}\n{at}/data\n1750000000\n5433\n{at}\n127.0.0.1\n  1 2\nready\n"),
            )
            .unwrap();
            let lock = dir.path().join(".s.PGSQL.5433.lock");
            fs::write(&lock, format!("{socket}\n{at}/data\n1750000000\n5433\n{at}\n")).unwrap();
            Self { dir, pgdata, socket: lock }
        }

        /// What is left of both.
        fn after(&self) -> (bool, bool) {
            remove_of_zombie(&self.pgdata);
            (self.pgdata.join(POSTMASTER_PID).exists(), self.socket.exists())
        }
    }

    #[test]
    fn both_of_a_zombie_are_removed() {
        let mut dead = zombie();
        assert_eq!(Locks::of(dead.id(), dead.id()).after(), (false, false));
        dead.wait().unwrap();
    }

    #[test]
    fn those_of_another_process_stay() {
        let (mut dead, alive) = (zombie(), std::process::id());
        assert_eq!(Locks::of(alive, alive).after(), (true, true));
        assert_eq!(Locks::of(alive, dead.id()).after(), (true, true));
        assert_eq!(Locks::of(dead.id(), alive).after(), (false, true));
        dead.wait().unwrap();
        // Postgres ignores the lock files of a process that is gone.
        assert_eq!(Locks::of(dead.id(), dead.id()).after(), (true, true));
    }

    #[test]
    fn what_is_no_such_file_stays() {
        let mut dead = zombie();
        let locks = Locks::of(dead.id(), dead.id());
        fs::remove_file(&locks.socket).unwrap();
        let given = locks.dir.path().join("given");
        fs::write(&given, format!("{}\n", dead.id())).unwrap();
        std::os::unix::fs::symlink(&given, &locks.socket).unwrap();
        assert_eq!(locks.after(), (false, true));
        for text in ["", "x\n", "-1\n", "99999999999\n", "1\n"] {
            fs::write(locks.pgdata.join(POSTMASTER_PID), text).unwrap();
            assert_eq!(locks.after(), (true, true), "{text:?}");
        }
        dead.wait().unwrap();
        fs::remove_file(locks.pgdata.join(POSTMASTER_PID)).unwrap();
        assert_eq!(locks.after(), (false, true));
    }
}
