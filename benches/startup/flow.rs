//! A large basebackup: how fast its bytes flow, over both protocols, and how much memory that takes.
//!
//! The floor is the slower of the two things that have to be done to every byte, inflating it and
//! writing it, each done alone in the same round. What the compute took is its own figure, from the
//! connection to the last file.

use std::fs;

use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::bed::{Bed, Protocol};
use super::common::process::get;
use super::common::samples::{Samples, heading, milliseconds, verdict, verdict_at_least};
use super::parts::Parts;

/// Speed, as a part of that of the floor.
const AIM: f64 = 0.9;
/// Additional memory at most, in MiB, whatever the size of the archive.
const AIM_MEMORY: f64 = 4.0;
/// Each writes half a gigabyte three times.
const MOST_RUNS: usize = 7;

pub fn large(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let runs = runs.min(MOST_RUNS);
    let mut parts = Parts::new(&bed.archives.large)?;
    let [mut inflate, mut write] = std::array::from_fn(|_| Samples::default());
    let mut protocols = [Protocol::Libpq, Protocol::Grpc]
        .map(|protocol| (protocol, [(); 3].map(|()| Samples::default())));
    let mut small = Samples::default();
    for round in 0..=runs {
        let inflated = parts.inflate()?;
        bed.next_round();
        let written = parts.write(&bed.other_pgdata())?;
        fs::remove_dir_all(bed.other_pgdata())?;
        let floor = milliseconds(inflated.max(written));
        // The first round warms the caches.
        if round > 0 {
            inflate.push_time(inflated);
            write.push_time(written);
            small.push(fetch(bed, Protocol::Libpq, &bed.archives.one_file)?.1);
        }
        for (protocol, [took, speed, memory]) in &mut protocols {
            let (millis, peak) = fetch(bed, *protocol, &bed.archives.large)?;
            if round > 0 {
                took.push(millis);
                speed.push(floor / millis);
                memory.push(peak);
            }
        }
    }
    heading("Basebackup of 512 MiB");
    inflate.print("inflating it, in memory", "ms");
    write.print("writing its files", "ms");
    small.print("peak memory with an archive of one file", "MiB");
    for (protocol, [took, speed, memory]) in &protocols {
        took.print(&format!("{protocol:?}: connect to last file"), "ms");
        speed.print("  slower of inflating and writing / this", "");
        memory.print("  peak memory of compute_ctl", "MiB");
        verdict_at_least("speed, as a part of the floor's", speed.median(), AIM, "");
        let more = memory.median() - small.median();
        verdict("peak memory over that with one file", more, AIM_MEMORY, "MiB");
    }
    Ok(())
}

/// Milliseconds from connecting to the last file, and the peak of the memory.
fn fetch(bed: &Bed, protocol: Protocol, archive: &std::path::Path) -> anyhow::Result<(f64, f64)> {
    bed.next_round();
    let daemon = bed.daemon_over(protocol, archive, &bed.fake)?;
    daemon.reached()?;
    let answer = get(bed.external_port(), "/metrics.json")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let metrics: Value = serde_json::from_str(body)?;
    let millis = metrics.get("basebackup_ms").and_then(Value::as_f64).context("no figure")?;
    let peak = daemon.memory("VmHWM")?;
    daemon.stop(Signal::SIGTERM)?;
    fs::remove_dir_all(bed.pgdata())?;
    Ok((millis, peak))
}
