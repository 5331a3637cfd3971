//! Ends the processes that a killed predecessor left running on this PGDATA.
//!
//! A compute_ctl that was killed with SIGKILL leaves its Postgres behind. The lock on PGDATA is
//! then free, but wiping the directory under a live postmaster would corrupt what the postmaster
//! still sends out. So this runs after the lock and before the wipe.
//!
//! The processes are identified by their properties, not by `postmaster.pid`, whose number may by
//! now belong to any process: our user, a program named `postgres`, and PGDATA as the working
//! directory, or, for a server that was only just started and has not entered it yet, `-D PGDATA`
//! in its arguments. An argument is a name and not a place, so it counts only in a process that
//! sees our files: another container may have another directory of the same name. Invariant: each
//! process is held by a [`ProcessHandle`] and checked again before it gets a signal.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use nix::sys::signal::Signal;

use super::lock_files;
use crate::os::pidfd::ProcessHandle;
use crate::os::procs;
use crate::postgres::limits::PostgresLimits;

/// Rounds of looking for processes: a dying postmaster may have forked just before.
const ROUNDS: usize = 3;

/// Why stale processes could not be ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StaleError {
    /// `/proc` or PGDATA cannot be read.
    #[error("could not look for processes that still run on {path}: {error}")]
    Look {
        /// PGDATA.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel refused a signal.
    #[error(
        "could not stop Postgres process {pid}, which still runs on this data directory: {error}"
    )]
    Signal {
        /// The process.
        pid: i32,
        /// Why.
        error: io::Error,
    },
    /// Not even SIGKILL ended it.
    #[error(
        "Postgres process {0} still runs on this data directory and does not end: end it first"
    )]
    StillAlive(i32),
}

/// Finds and ends all Postgres processes that run on the existing directory `pgdata`: the
/// postmaster, or backends that lost it, by SIGINT, SIGQUIT, SIGKILL, then the rest by SIGKILL.
/// Returns how many processes the first look through `/proc` found. The lock files of a postmaster
/// that has ended, but is still a zombie, are removed.
///
/// # Errors
/// See [`StaleError`]; PGDATA must not be touched then.
pub(crate) async fn stop_stale(
    pgdata: &Path,
    limits: &PostgresLimits,
) -> Result<usize, StaleError> {
    let look_failed = |error| StaleError::Look { path: pgdata.to_owned(), error };
    let real = std::fs::canonicalize(pgdata).map_err(look_failed)?;
    let found = end_all(&real, limits, look_failed).await?;
    lock_files::remove_of_zombie(&real);
    Ok(found)
}

async fn end_all(
    real: &Path,
    limits: &PostgresLimits,
    look_failed: impl Fn(io::Error) -> StaleError,
) -> Result<usize, StaleError> {
    let found = find(real).await.map_err(&look_failed)?;
    if found.is_empty() {
        return Ok(0);
    }
    // All at the same time: a killed postmaster leaves many processes, and each may use up its
    // ladder.
    let roots = found.iter().filter(|f| f.is_root);
    try_join_all(roots.map(|root| stop(&root.handle, limits))).await?;
    for _ in 0..ROUNDS {
        let left = find(real).await.map_err(&look_failed)?;
        if left.is_empty() {
            return Ok(found.len());
        }
        for process in &left {
            send(&process.handle, Signal::SIGKILL)?;
        }
        for process in &left {
            await_end(&process.handle, limits.kill).await?;
        }
    }
    match find(real).await.map_err(&look_failed)?.first() {
        Some(survivor) => Err(StaleError::StillAlive(survivor.handle.pid())),
        None => Ok(found.len()),
    }
}

struct Stale {
    handle: ProcessHandle,
    /// Its parent is not a stale process: it is the postmaster, or a backend that lost it.
    is_root: bool,
}

/// On a thread of its own: beside many processes it takes milliseconds, in which the safekeepers
/// answer.
async fn find(real: &Path) -> io::Result<Vec<Stale>> {
    let real = real.to_owned();
    tokio::task::spawn_blocking(move || find_now(&real)).await.map_err(io::Error::other)?
}

fn find_now(real: &Path) -> io::Result<Vec<Stale>> {
    let me = nix::unistd::geteuid().as_raw();
    let is_one = |pid| {
        procs::runs_program(pid, "postgres")
            && (procs::cwd(pid).is_some_and(|cwd| cwd == real) || is_on_its_way(pid, real))
    };
    let ours = procs::of_user(me)?.into_iter();
    let ours: Vec<_> = ours.filter(|p| !p.zombie && is_one(p.pid)).collect();
    let pids: HashSet<i32> = ours.iter().map(|p| p.pid).collect();
    Ok(ours
        .iter()
        .filter_map(|p| {
            let handle = ProcessHandle::open(p.pid)?;
            // The handle holds the process; check that it is still the one that was seen.
            let is_still = procs::owner(p.pid) == Some(me) && is_one(p.pid);
            is_still.then(|| Stale { handle, is_root: !pids.contains(&p.ppid) })
        })
        .collect())
}

/// Whether this is a server as we start it that has not yet entered its data directory.
fn is_on_its_way(pid: i32, real: &Path) -> bool {
    let Some(arguments) = procs::arguments(pid) else { return false };
    let directories = arguments.iter().skip(1).zip(arguments.iter().skip(2));
    let mut directories = directories.filter(|(flag, _)| *flag == "-D").map(|(_, path)| path);
    let names_it = directories.any(|path| {
        let path = Path::new(path);
        path.is_absolute() && std::fs::canonicalize(path).is_ok_and(|path| path == real)
    });
    names_it && procs::sees_our_files(pid)
}

async fn stop(process: &ProcessHandle, limits: &PostgresLimits) -> Result<(), StaleError> {
    let pid = process.pid();
    tracing::warn!(pid, "stopping the Postgres that a killed predecessor left running");
    for (signal, patience) in [(Signal::SIGINT, limits.stale_fast), (Signal::SIGQUIT, limits.quit)]
    {
        send(process, signal)?;
        if process.ended_within(patience).await {
            return Ok(());
        }
    }
    send(process, Signal::SIGKILL)?;
    await_end(process, limits.kill).await
}

fn send(process: &ProcessHandle, signal: Signal) -> Result<(), StaleError> {
    process.signal(signal).map_err(|error| StaleError::Signal { pid: process.pid(), error })
}

async fn await_end(process: &ProcessHandle, limit: Duration) -> Result<(), StaleError> {
    match process.ended_within(limit).await {
        true => Ok(()),
        false => Err(StaleError::StillAlive(process.pid())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::*;
    use crate::os::children::{Children, RegisteredChild};

    fn short() -> PostgresLimits {
        PostgresLimits {
            stale_fast: Duration::from_millis(20),
            quit: Duration::from_millis(20),
            kill: Duration::from_secs(60),
            ..PostgresLimits::default()
        }
    }

    /// A copy of a shell under another name, in `pgdata`; it ends only by a signal.
    async fn start(dir: &Path, pgdata: &Path, program: &str, script: &str) -> RegisteredChild {
        start_with(dir, pgdata, program, script, &[]).await
    }

    async fn start_with(
        dir: &Path,
        pgdata: &Path,
        program: &str,
        script: &str,
        arguments: &[&Path],
    ) -> RegisteredChild {
        std::fs::create_dir_all(dir).unwrap();
        let program = dir.join(program);
        // Not copied by ourselves: a fork of another test could hold the file open for writing,
        // and then it cannot be executed.
        let mut copy = Command::new("cp");
        copy.arg("/bin/sh").arg(&program);
        let copied = Children::new().run(copy, Duration::from_secs(60), 100).await.unwrap();
        assert!(copied.status.success(), "{copied:?}");
        let mut command = Command::new(&program);
        command.args(["-c", &format!("{script}; echo up; read never")]);
        command.args(arguments).current_dir(pgdata);
        command.stdout(std::process::Stdio::piped()).stdin(std::process::Stdio::piped());
        let mut child = Children::new().spawn(command).unwrap();
        child.kill_on_drop(true);
        let mut lines = Box::pin(child.take_stdout().unwrap());
        let mut byte = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut lines, &mut byte).await.unwrap();
        child
    }

    #[tokio::test]
    async fn nothing_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(stop_stale(dir.path(), &short()).await.unwrap(), 0);
        let gone = dir.path().join("gone");
        assert!(matches!(stop_stale(&gone, &short()).await, Err(StaleError::Look { .. })));
    }

    #[tokio::test]
    async fn stops_what_runs_here_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (pgdata, other) = (dir.path().join("data"), dir.path().join("other"));
        std::fs::create_dir(&pgdata).unwrap();
        std::fs::create_dir(&other).unwrap();
        let mut stubborn =
            start(&dir.path().join("1"), &pgdata, "postgres", "trap '' INT QUIT").await;
        let elsewhere = start(&dir.path().join("2"), &other, "postgres", ":").await;
        let no_postgres = start(dir.path(), &pgdata, "bystander", ":").await;
        assert_eq!(stop_stale(&pgdata, &short()).await.unwrap(), 1);
        let status = stubborn.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        for alive in [&elsewhere, &no_postgres] {
            assert!(procs::get(alive.pid()).is_some_and(|p| !p.zombie));
        }
    }

    #[tokio::test]
    async fn one_that_has_not_entered_yet_is_known_by_its_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let (pgdata, other, link) =
            (dir.path().join("data"), dir.path().join("other"), dir.path().join("link"));
        std::fs::create_dir(&pgdata).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&pgdata, &link).unwrap();
        let flag = Path::new("-D");
        let (data, elsewhere, linked) = (pgdata.as_path(), other.as_path(), link.as_path());
        let start = async |n: &str, program: &str, arguments: &[&Path]| {
            start_with(&dir.path().join(n), dir.path(), program, ":", arguments).await
        };
        let mut ours = [
            start("1", "postgres", &[flag, data]).await,
            start("2", "postgres", &[flag, linked]).await,
        ];
        let others = [
            start("3", "postgres", &[flag, elsewhere]).await,
            start("4", "postgres", &[data]).await,
            // Relative to an unknown directory.
            start("5", "postgres", &[flag, Path::new("data")]).await,
            start("6", "bystander", &[flag, data]).await,
        ];
        assert_eq!(stop_stale(&pgdata, &short()).await.unwrap(), 2);
        for stopped in &mut ours {
            assert_eq!(stopped.wait().await.unwrap().code(), None);
        }
        for alive in &others {
            assert!(procs::get(alive.pid()).is_some_and(|p| !p.zombie));
        }
    }
}
