//! Reads `/proc`: the parent of a process, its program and its working directory.
//!
//! Everything here is a snapshot: a process can be gone, and its number reused, when the caller
//! acts. A caller that acts on a number first opens a [`super::pidfd::ProcessHandle`] and then
//! checks the process again.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Parent's process id.
    pub ppid: i32,
    /// Process group id.
    pub pgrp: i32,
    /// Ended, but not yet waited for.
    pub zombie: bool,
    /// Start time in clock ticks since boot: tells two holders of one number apart.
    pub started: u64,
}

/// All processes of this PID namespace that still exist when they are read.
///
/// # Errors
/// `/proc` cannot be listed (not mounted).
pub fn all() -> io::Result<Vec<Process>> {
    Ok(pids()?.filter_map(get).collect())
}

/// The processes of one user, by [`owner`]. Asks for the owner first, which costs a tenth of reading
/// a process: a machine may run thousands of others.
///
/// # Errors
/// `/proc` cannot be listed (not mounted).
pub(crate) fn of_user(user: u32) -> io::Result<Vec<Process>> {
    Ok(pids()?.filter(|pid| owner(*pid) == Some(user)).filter_map(get).collect())
}

fn pids() -> io::Result<impl Iterator<Item = i32>> {
    let entries = std::fs::read_dir("/proc")?.map_while(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// One process; `None` if none has that number.
pub fn get(pid: i32) -> Option<Process> {
    // A name of at most 64 bytes and 50 numbers of at most 20 digits.
    let mut stat = [0; 2048];
    let length = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    parse_stat(stat.get(..length)?)
}

/// Whether a signal or a debugger has stopped the process; false if it is gone.
pub(crate) fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
    matches!(fields.trim_ascii_start().first(), Some(b'T' | b't'))
}

/// Parses a line of `stat`. The name in parentheses may hold anything, even blanks and `)`: the
/// fields start behind the last `)`.
fn parse_stat(stat: &[u8]) -> Option<Process> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let (head, fields) = stat.split_at(name_ends);
    let pid = head.split(|byte| *byte == b' ').next()?;
    let pid = str::from_utf8(pid).ok()?.parse().ok()?;
    let fields = str::from_utf8(fields.strip_prefix(b")")?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let ppid = fields.next()?.parse().ok()?;
    let pgrp = fields.next()?.parse().ok()?;
    // Field 22 of the line; the three before it are read, and nth() counts from 0.
    let started = fields.nth(22 - 6)?.parse().ok()?;
    Some(Process { pid, ppid, pgrp, zombie: matches!(state, "Z" | "X"), started })
}

/// The owner; `None` if the process is gone.
pub fn owner(pid: i32) -> Option<u32> {
    std::fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid())
}

/// A user for a text: the name, if there is one, and the number.
pub(crate) fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

/// The working directory; `None` if the process is gone or access is denied.
pub fn cwd(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The arguments, the program's name first; `None` if the process is gone or a zombie.
pub fn arguments(pid: i32) -> Option<Vec<OsString>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = line.strip_suffix(b"\0")?;
    Some(line.split(|byte| *byte == 0).map(|arg| OsString::from_vec(arg.to_vec())).collect())
}

/// Whether a path means the same file to the process as to us: it has our mounts and our root.
/// False if access is denied.
pub fn sees_our_files(pid: i32) -> bool {
    let mounts = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let root = |pid: &str| {
        let root = std::fs::metadata(format!("/proc/{pid}/root/")).ok()?;
        Some((root.dev(), root.ino()))
    };
    let pid = pid.to_string();
    let same_mounts = mounts(&pid).is_some_and(|theirs| Some(theirs) == mounts("self"));
    same_mounts && root(&pid).is_some_and(|theirs| Some(theirs) == root("self"))
}

/// The name of the program, at most 15 bytes; unlike the rest it can still be read while the
/// process is being taken down. `None` if it is gone.
pub fn name(pid: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// Whether the process runs a program file of this name, also one that was deleted or replaced
/// since (an upgrade).
pub fn runs_program(pid: i32, name: &str) -> bool {
    let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let file = Path::new(&exe).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    file.strip_suffix(" (deleted)").unwrap_or(file) == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses() {
        let stat = b"42 (a) b \xff(c)) Z 7 40 40 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 9876 1 2";
        let seen = parse_stat(stat).unwrap();
        assert_eq!(seen, Process { pid: 42, ppid: 7, pgrp: 40, zombie: true, started: 9876 });
    }

    #[test]
    fn users_with_and_without_a_name() {
        assert_eq!(user(0), "root (uid 0)");
        assert_eq!(user(3_999_999_999), "uid 3999999999");
    }

    #[test]
    fn finds_itself() {
        let me = i32::try_from(std::process::id()).unwrap();
        let seen = all().unwrap().into_iter().find(|p| p.pid == me).unwrap();
        assert_eq!(seen.ppid, nix::unistd::getppid().as_raw());
        assert!(!seen.zombie);
        assert_eq!(owner(me), Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(cwd(me).unwrap(), std::env::current_dir().unwrap());
        assert!(arguments(me).unwrap().iter().eq(std::env::args_os().collect::<Vec<_>>().iter()));
        assert!(sees_our_files(me));
        let user = nix::unistd::geteuid().as_raw();
        assert!(of_user(user).unwrap().contains(&seen));
        assert!(!of_user(user ^ 1).unwrap().contains(&seen));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a child of the test alone")]
    fn a_stopped_process_is_told_apart() {
        use nix::sys::signal::{Signal, kill};
        use nix::sys::wait::{WaitPidFlag, waitpid};
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let at = nix::unistd::Pid::from_raw(pid);
        assert!(!is_stopped(pid));
        kill(at, Signal::SIGSTOP).unwrap();
        waitpid(at, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(is_stopped(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_stopped(pid), "gone");
    }
}
