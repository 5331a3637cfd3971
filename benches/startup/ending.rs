//! The end by `/terminate?mode=immediate`: how long after the last thing that is waited for the answer
//! comes.
//!
//! The last thing is the end of Postgres, or that of the sync which follows it. A thread waits for the
//! end of the postmaster by its process descriptor; the stand-in for the sync writes down the time
//! before it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::bed::Bed;
use super::common::client::Connection;
use super::common::samples::{Samples, heading, milliseconds, verdict};

/// Milliseconds.
const AIM: f64 = 1.0;
/// Requests before the end: the first ones pay for what a compute does once.
const WARM_UP: usize = 20;
/// The real server, with a sync that takes no time. `EPOCHREALTIME` is a variable of bash, so the time
/// is that of the line itself.
const WITH_SYNC: &str = r#"#!/bin/bash
[ "$1" = --sync-safekeepers ] || exec @REAL@ "$@"
began=$EPOCHREALTIME
echo 0/1F30EC8
echo "$began $EPOCHREALTIME" > @TIMES@
"#;

/// The answer, after the end of Postgres alone and after that of a sync.
pub fn terminate(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let times = bed.dir().join("sync-times");
    let script = script(bed, &times)?;
    let [mut alone, mut to_sync, mut synced] = std::array::from_fn(|_| Samples::default());
    for round in 0..=runs {
        bed.next_round();
        let (exit, answer) = end(bed, &bed.server.postgres)?;
        bed.next_round();
        let (exit_before, answer_after) = end(bed, &script)?;
        let text = fs::read_to_string(&times).context("the sync was not run")?;
        let (began, ended) = text.trim().split_once(' ').context("two times")?;
        fs::remove_file(&times)?;
        // The first round warms the caches.
        if round > 0 {
            alone.push(between(exit, answer));
            to_sync.push(between(exit_before, point(began)?));
            synced.push(between(point(ended)?, answer_after));
        }
    }
    heading("/terminate?mode=immediate");
    alone.print("end of Postgres to answer, without a sync", "ms");
    to_sync.print("end of Postgres to begin of the sync", "ms");
    synced.print("end of the sync to answer", "ms");
    verdict("end of Postgres to answer, median", alone.median(), AIM, "ms");
    verdict("end of the sync to answer, median", synced.median(), AIM, "ms");
    Ok(())
}

fn script(bed: &Bed, times: &Path) -> anyhow::Result<PathBuf> {
    let folder = bed.dir().join("with-sync");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let program = folder.join("postgres");
    let text = WITH_SYNC.replace("@REAL@", &bed.server.postgres.to_string_lossy());
    fs::write(&program, text.replace("@TIMES@", &times.to_string_lossy()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    for name in ["pg_config", "initdb"] {
        let real = bed.server.program(name);
        if real.is_file() {
            std::os::unix::fs::symlink(real, folder.join(name))?;
        }
    }
    Ok(program)
}

/// Starts a compute and ends it. Returns when Postgres ended, and when the answer was there.
fn end(bed: &Bed, postgres: &Path) -> anyhow::Result<(Duration, Duration)> {
    let daemon = bed.daemon(&bed.archives.initdb, postgres)?;
    daemon.reached()?;
    let pid = fs::read_to_string(bed.pgdata().join("postmaster.pid"))?;
    let watch = watch(pid.lines().next().context("no postmaster")?.parse()?)?;
    let mut connection = Connection::open(bed.external_port())?;
    for _ in 0..WARM_UP {
        connection.send("GET", "/status", "")?;
    }
    let (code, text) = connection.send("POST", "/terminate?mode=immediate", "")?;
    let answer = now()?;
    ensure!(code == 200, "/terminate answered {code}: {text}");
    let exit = watch.join().map_err(|_| anyhow::anyhow!("the thread died"))??;
    daemon.stop(Signal::SIGTERM)?;
    Ok((exit, answer))
}

/// Notes when the process ends.
fn watch(pid: i32) -> anyhow::Result<JoinHandle<anyhow::Result<Duration>>> {
    let pid = Pid::from_raw(pid).context("no process id")?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    Ok(std::thread::spawn(move || {
        let mut wait = [PollFd::new(&process, PollFlags::IN)];
        while poll(&mut wait, None)? == 0 {}
        now()
    }))
}

fn now() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// The time that bash has written.
fn point(text: &str) -> anyhow::Result<Duration> {
    let (seconds, micros) = text.split_once(['.', ',']).context("seconds and microseconds")?;
    Ok(Duration::new(seconds.parse()?, micros.parse::<u32>()? * 1000))
}

fn between(earlier: Duration, later: Duration) -> f64 {
    if later > earlier { milliseconds(later - earlier) } else { -milliseconds(earlier - later) }
}
