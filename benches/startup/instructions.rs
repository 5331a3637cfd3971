//! The instructions of the daemon's own share, which other work on the machine does not change.

use std::fs;
use std::process::Command;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::bed::Bed;

/// Counted with callgrind; more rounds differ by a percent.
const ROUNDS: usize = 3;

/// From exec to the end: a start with an archive of one file and a server that is ready at once, a
/// request, and the end by SIGTERM.
pub fn count(bed: &Bed, _runs: usize) -> anyhow::Result<()> {
    println!("\nInstructions of compute_ctl in its own code, start and end, in millions");
    let found = Command::new("valgrind").arg("--version").output();
    if found.is_err() {
        println!("  not counted: install valgrind");
        return Ok(());
    }
    for round in 1..=ROUNDS {
        bed.next_round();
        let folder = bed.dir().join(format!("counts-{round}"));
        fs::create_dir(&folder)?;
        bed.owner.hand_over(&folder)?;
        let counts = folder.join("callgrind.out");
        let daemon = bed.counted(&bed.fake, &counts)?;
        daemon.reached()?;
        bed.assert_running()?;
        daemon.stop(Signal::SIGTERM)?;
        let text = fs::read_to_string(&counts)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total: f64 = total.context("callgrind wrote no total")?.trim().parse()?;
        println!("  round {round}: {:.2}", total / 1e6);
    }
    Ok(())
}
