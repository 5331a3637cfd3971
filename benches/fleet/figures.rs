//! What the kernel counts of one process.

use std::fs;

use anyhow::Context;

use super::common::process::Process;

/// Figures of one supervisor, without its children.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Time on a processor since its start, in milliseconds, of the threads that still live.
    pub cpu_ms: f64,
    /// Proportional set size: pages that several processes share are divided among them.
    pub pss_mib: f64,
    pub rss_mib: f64,
    pub descriptors: f64,
    pub threads: f64,
    /// Times that its threads went to sleep.
    pub wakeups: f64,
}

/// The figures of all, in order.
pub fn all(computes: &[Process]) -> anyhow::Result<Vec<Figures>> {
    computes.iter().map(|compute| of(compute.pid())).collect()
}

fn of(pid: u32) -> anyhow::Result<Figures> {
    let dir = format!("/proc/{pid}");
    let (mut nanoseconds, mut wakeups, mut threads) = (0.0, 0.0, 0.0);
    for thread in fs::read_dir(format!("{dir}/task"))? {
        let thread = thread?.path();
        // It may have ended since it was listed: those of the blocking pool do.
        let Ok(times) = fs::read_to_string(thread.join("schedstat")) else { continue };
        let Ok(status) = fs::read_to_string(thread.join("status")) else { continue };
        nanoseconds += times.split(' ').next().context("no time")?.parse::<f64>()?;
        wakeups += number(&status, "voluntary_ctxt_switches:")?;
        threads += 1.0;
    }
    let rollup = fs::read_to_string(format!("{dir}/smaps_rollup"))?;
    Ok(Figures {
        cpu_ms: nanoseconds / 1e6,
        pss_mib: number(&rollup, "Pss:")? / 1024.0,
        rss_mib: number(&rollup, "Rss:")? / 1024.0,
        descriptors: fs::read_dir(format!("{dir}/fd"))?.count() as f64,
        threads,
        wakeups,
    })
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> anyhow::Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.with_context(|| format!("no {name}"))?.parse()?)
}
