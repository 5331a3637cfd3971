//! Signals pgbouncer and local_proxy at the end of the compute (01 §18.3).
//!
//! They are not our children; they are found by pid files in folders that other users can write to.
//! So a number from such a file is used only if its process is the right program (01 §24 no. 31).

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::Signal;

use crate::os::pidfd::ProcessHandle;
use crate::os::procs;

const PGBOUNCER_PID: &str = "/tmp/pgbouncer.pid";
const LOCAL_PROXY_PID: &str = "/etc/local_proxy/pid";
/// Bytes read from a pid file: more than any process number with its line feed.
const PID_FILE_LIMIT: u64 = 32;

/// Owner of a pid file, judged by its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PidFile {
    /// Locked by the process with this number.
    Held(i32),
    /// Locked by a process that has not written its number yet, because it is starting (04 §9.3).
    HeldWithoutNumber,
    /// Not locked; the number may belong to any process by now.
    Free(i32),
    /// No file, or no number in it.
    Absent,
}

/// Reads a pid file without writing to it; a try to lock it shows whether its owner lives. The lock
/// is released before anything else, so that it hardly ever disturbs a starting owner.
///
/// # Errors
/// The file exists and cannot be opened, locked or read.
pub(crate) fn try_read_pid_file(path: &Path) -> io::Result<PidFile> {
    // Other users can put anything there: a normal open of a FIFO would wait for a writer.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PidFile::Absent),
        file => file?,
    };
    let (file, held) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => (lock.unlock().map_err(|(_, errno)| errno)?, false),
        Err((file, Errno::EWOULDBLOCK)) => (file, true),
        Err((_, errno)) => return Err(errno.into()),
    };
    let mut text = String::new();
    file.take(PID_FILE_LIMIT).read_to_string(&mut text)?;
    Ok(match text.trim().parse::<i32>() {
        Ok(pid) if pid >= 1 && held => PidFile::Held(pid),
        Ok(pid) if pid >= 1 => PidFile::Free(pid),
        _ if held => PidFile::HeldWithoutNumber,
        _ => PidFile::Absent,
    })
}

/// Like [`try_read_pid_file`]; a file that cannot be read counts as absent.
pub(crate) fn read_pid_file(path: &Path) -> PidFile {
    try_read_pid_file(path).unwrap_or(PidFile::Absent)
}

/// Signals both programs to end, unless this is a development set-up, where they are not ours.
pub(crate) fn terminate(dev: bool) {
    if dev {
        return;
    }
    // pgbouncer does not lock its pid file; its sessions would delay the shutdown.
    if let PidFile::Held(pid) | PidFile::Free(pid) = read_pid_file(Path::new(PGBOUNCER_PID)) {
        signal_program(pid, "pgbouncer", Signal::SIGKILL);
    }
    if let PidFile::Held(pid) = read_pid_file(Path::new(LOCAL_PROXY_PID)) {
        signal_program(pid, "local_proxy", Signal::SIGTERM);
    }
}

fn signal_program(pid: i32, program: &str, signal: Signal) {
    // The handle is opened before the check, so the number cannot pass to another process.
    let Some(process) = ProcessHandle::open(pid) else { return };
    if procs::name(pid).as_deref() != Some(program) {
        tracing::warn!("process {pid} of {program}'s pid file is not {program}; left alone");
        return;
    }
    match process.signal(signal) {
        Ok(()) => tracing::info!("sent {signal} to {program}, process {pid}"),
        Err(error) => {
            tracing::warn!("could not send {signal} to {program}, process {pid}: {error}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_lock_tells_who_owns_a_pid_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        assert_eq!(read_pid_file(&path), PidFile::Absent);
        for (content, expected) in [
            ("123\n", PidFile::Free(123)),
            ("0", PidFile::Absent),
            ("-5", PidFile::Absent),
            ("", PidFile::Absent),
            ("12 34", PidFile::Absent),
            ("99999999999999999999999999999999999999999", PidFile::Absent),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_pid_file(&path), expected, "{content:?}");
        }
        std::fs::write(&path, "123").unwrap();
        let lock =
            Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(read_pid_file(&path), PidFile::Held(123));
        std::fs::write(&path, "").unwrap();
        assert_eq!(read_pid_file(&path), PidFile::HeldWithoutNumber);
        std::fs::write(&path, "123").unwrap();
        drop(lock);
        assert_eq!(read_pid_file(&path), PidFile::Free(123));
    }

    #[test]
    fn a_fifo_without_a_writer_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_pid_file(&path), PidFile::Absent);
    }

    #[tokio::test]
    async fn a_number_of_another_program_is_left_alone() {
        // A signal would end the test.
        signal_program(std::process::id().cast_signed(), "pgbouncer", Signal::SIGKILL);
    }
}
