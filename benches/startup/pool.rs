//! A compute of a warm pool: from exec to the status `empty`, against the bare programs of its warm-up.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::Signal;

use super::bed::Bed;
use super::common::process::Process;
use super::common::samples::{Samples, heading, milliseconds, verdict};
use super::parts::READY;

/// The settings of the warm-up, without `neon`, which no server here has.
const CONFIGURATION: &str = "shared_buffers=65536\nport=51055\nlisten_addresses=''\n";

/// Exec to `empty`, and `initdb --no-sync`, a start and an immediate stop of a server in sequence.
pub fn empty(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let [mut bare, mut own, mut ratio] = std::array::from_fn(|_| Samples::default());
    for round in 0..=runs {
        bed.next_round();
        let floor = bare_programs(bed, &bed.other_pgdata())?;
        let daemon = bed.empty_daemon()?;
        let time = daemon.reached()?;
        daemon.stop(Signal::SIGTERM)?;
        // The first round warms the caches.
        if round > 0 {
            bare.push_time(floor);
            own.push_time(time);
            ratio.push(milliseconds(time) / milliseconds(floor));
        }
    }
    heading("A compute without a spec");
    bare.print("initdb --no-sync, a start and a stop of Postgres", "ms");
    own.print("compute_ctl, exec to `empty`", "ms");
    ratio.print("ratio, round by round", "");
    verdict("ratio", ratio.median(), 1.0, "");
    Ok(())
}

fn bare_programs(bed: &Bed, directory: &Path) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut initdb = Command::new(bed.server.program("initdb"));
    initdb.arg("--pgdata").arg(directory).arg("--no-sync");
    bed.owner.run_as(&mut initdb);
    let output = initdb.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sockets = format!("unix_socket_directories='{}'\n", directory.display());
    fs::write(directory.join("postgresql.conf"), CONFIGURATION.to_owned() + &sockets)?;
    let mut command = Command::new(&bed.server.postgres);
    command.arg("-D").arg(directory);
    bed.owner.run_as(&mut command);
    let server = Process::start(command, READY)?;
    server.reached()?;
    server.stop(Signal::SIGQUIT)?;
    Ok(began.elapsed())
}
