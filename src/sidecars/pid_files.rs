//! Signals pgbouncer and local_proxy at the end of the compute (01 §18.3).
//!
//! They are not our children; they are found by their pid files. A file whose lock is held names its
//! owner, whatever the owner's program is called. pgbouncer does not lock its file, which is in a
//! folder that every user can write to: such a number is used only if its process is pgbouncer
//! (01 §24 no. 31).

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::Signal;

use crate::os::pidfd::ProcessHandle;
use crate::os::procs;

const PGBOUNCER: &str = "pgbouncer";
/// File name of its configuration, in a pod and in a virtual machine.
const INI: &str = "pgbouncer.ini";
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
    // Its sessions would delay the shutdown.
    tell_owner(Path::new(PGBOUNCER_PID), PGBOUNCER, Signal::SIGKILL);
    tell_owner(Path::new(LOCAL_PROXY_PID), "local_proxy", Signal::SIGTERM);
}

/// Signals the process of a pid file.
fn tell_owner(path: &Path, program: &str, signal: Signal) {
    let (pid, is_owner) = match read_pid_file(path) {
        PidFile::Held(pid) => (pid, true),
        PidFile::Free(pid) if program == PGBOUNCER => (pid, false),
        _ => return,
    };
    // The handle is opened before the checks, so the number cannot pass to another process.
    let Some(process) = ProcessHandle::open(pid) else { return };
    let why_not = if is_us(pid) || procs::get(pid).is_some_and(|it| is_us(it.ppid)) {
        "compute_ctl or a child of it"
    } else if !is_owner && !is_pgbouncer(pid, path) {
        "not pgbouncer"
    } else {
        return send(&process, program, signal);
    };
    tracing::warn!(
        "process {pid} of {program}'s pid file {} is {why_not}; left alone",
        path.display()
    );
}

/// Whether this is our own process.
pub(crate) fn is_us(pid: i32) -> bool {
    u32::try_from(pid) == Ok(std::process::id())
}

/// Whether the process is pgbouncer: by its name or its program file, or, started under another
/// name, because the user that wrote the pid file started it with a file named `pgbouncer.ini`.
fn is_pgbouncer(pid: i32, pid_file: &Path) -> bool {
    let named = procs::name(pid).as_deref() == Some(PGBOUNCER);
    named || procs::runs_program(pid, PGBOUNCER) || {
        let writer = pid_file.symlink_metadata().ok().map(|it| it.uid());
        let ini = |argument: &OsStr| Path::new(argument).file_name() == Some(OsStr::new(INI));
        writer.is_some()
            && writer == procs::owner(pid)
            && procs::arguments(pid).is_some_and(|it| it.iter().skip(1).any(|it| ini(it)))
    }
}

fn send(process: &ProcessHandle, program: &str, signal: Signal) {
    let pid = process.pid();
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
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;
    use crate::os::children::{Children, RegisteredChild};

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

    /// Ends with 3 when it gets SIGUSR1.
    const WAITS: &str = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.02; done";

    /// Starts `program`, which is a shell, through another shell: a child of this process would
    /// never be signalled. Returns the other shell, which has the status of the first, and the
    /// number of the first.
    async fn process(program: &Path, arguments: &[&str]) -> (RegisteredChild, i32) {
        std::os::unix::fs::symlink("/bin/sh", program).unwrap();
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", "\"$@\" & echo $!; wait $!", "sh"]).arg(program);
        command.args(["-c", WAITS, "it"]).args(arguments).stdout(Stdio::piped());
        let mut child = Children::new().spawn(command).unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let mut said = [String::new(), String::new()];
        for line in &mut said {
            *line = lines.next_line().await.unwrap().unwrap();
        }
        let pid = said.iter().find_map(|line| line.parse().ok()).unwrap();
        (child, pid)
    }

    fn held(path: &Path) -> Flock<File> {
        Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap()
    }

    /// Which of these processes a pid file that names them leads to.
    #[tokio::test]
    async fn who_is_told() {
        for (program, name, arguments, is_held, told) in [
            ("local_proxy", "local_proxy", &[][..], true, true),
            ("local_proxy", "lp-2.1-wrapper", &[], true, true),
            ("local_proxy", "local_proxy", &[], false, false),
            ("pgbouncer", "pgbouncer", &[], false, true),
            ("pgbouncer", "pooler", &[], true, true),
            ("pgbouncer", "pooler", &["/etc/pgbouncer.ini"], false, true),
            ("pgbouncer", "pooler", &["/etc/pgbouncer.ini.bak"], false, false),
            ("pgbouncer", "pgbouncer-like", &[], false, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (mut parent, pid) = process(&dir.path().join(name), arguments).await;
            let path = dir.path().join("pid");
            std::fs::write(&path, pid.to_string()).unwrap();
            let _lock = is_held.then(|| held(&path));
            tell_owner(&path, program, Signal::SIGTERM);
            if !told {
                let pid = nix::unistd::Pid::from_raw(pid);
                nix::sys::signal::kill(pid, Signal::SIGUSR1).unwrap();
            }
            let case = format!("{program} {name} {arguments:?} {is_held}");
            let ended = tokio::time::timeout(Duration::from_secs(60), parent.wait()).await;
            // 128 and the signal, in the words of a shell.
            let code = ended.expect(&case).unwrap().code();
            assert_eq!(code, Some(if told { 143 } else { 3 }), "{case}");
        }
    }

    #[tokio::test]
    async fn compute_ctl_and_its_children_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", WAITS]).stdout(Stdio::piped());
        let mut child = Children::new().spawn(command).unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        for pid in [std::process::id().cast_signed(), child.pid()] {
            std::fs::write(&path, pid.to_string()).unwrap();
            let _lock = held(&path);
            // The first would end the test.
            tell_owner(&path, PGBOUNCER, Signal::SIGKILL);
        }
        child.signal(Signal::SIGUSR1).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
    }
}
