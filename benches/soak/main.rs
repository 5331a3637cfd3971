//! A long run: `cargo bench --bench soak [-- --minutes N]`.
//!
//! One compute on a real Postgres lives through rounds of a quarter of a minute. In each round it is
//! reconfigured, refreshed, given a certificate, prewarmed, asked by agents of an autoscaler and by
//! many clients, some of which stall, while Postgres floods the log. Each round ends with a quiet
//! moment, in which the process is looked at. At the end nothing may have grown over the second half
//! of the run, and `/status`, which is asked all the time, must have been fast.
//!
//! It shares beds, stand-ins and checks with `tests/it`, so `COMPUTE_CTL_TEST_PROGRAM` names another
//! program, and a broken expectation is a panic. Without `--bench` (`cargo test --all-targets`) it
//! does nothing.

#![allow(
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a run that finds something else than it expects has failed"
)]

#[path = "../common/client.rs"]
mod client;
mod latency;
mod load;
mod sample;
#[path = "../../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests, which use the rest")]
mod support;
mod verdict;
#[path = "../../tests/it/vm_monitor"]
#[allow(dead_code, reason = "shared with the tests, which use the rest")]
mod vm_monitor {
    pub mod agent;
    pub mod machine;
}
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use latency::{Latencies, Watch};
use load::{Round, Tally, UNANSWERED};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sample::{QUANTITIES, Sample};
use tokio::time::{Instant, interval, sleep, sleep_until};
use verdict::{FEWEST, Trend, percentile};
use world::World;

const MINUTES: usize = 10;
const ROUND: Duration = Duration::from_secs(15);
const ROUNDS_PER_MINUTE: usize = 4;
/// At least so long the process is left alone at the end of a round.
const QUIET: Duration = Duration::from_secs(2);
/// Between two looks at the process: in a quiet moment, and during the loads.
const LOOK: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// Microseconds, of the 99th percentile.
const AIM: u64 = 10_000;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Some(minutes) = arguments()? else {
        println!("a long run: run me with `cargo bench --bench soak`");
        return Ok(ExitCode::SUCCESS);
    };
    // For the client's side of thousands of connections.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;

    let world = World::start().await;
    let tally = Tally::default();
    let watch = Watch::start(world.machine.bed.external_port);
    let (pid, folders) = (world.compute.pid(), world.folders());
    let first = Sample::take(pid, &folders);
    let peaks = async {
        let (mut most, mut looks) = (first, interval(LOOK[1]));
        let mut rounds = std::pin::pin!(rounds(&world, minutes, &tally));
        loop {
            tokio::select! {
                samples = &mut rounds => return (samples, most),
                _ = looks.tick() => most = most.most(Sample::take(pid, &folders)),
            }
        }
    };
    let (samples, most) = peaks.await;
    let latencies = watch.end();
    println!("PostgreSQL {}, {minutes} minutes", world.machine.bed.server.version);
    world.end().await;
    tally.print();
    let passed =
        [print_growth(&samples, &most), print_latencies(&latencies), tally.count(UNANSWERED) == 0];
    println!("  {UNANSWERED}: {}", tally.count(UNANSWERED));
    let passed = passed.iter().all(|passed| *passed);
    println!("{}", if passed { "passed" } else { "FAILED" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The minutes; `None` without `--bench`.
fn arguments() -> anyhow::Result<Option<usize>> {
    let (mut wanted, mut minutes) = (false, MINUTES);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => wanted = true,
            "--minutes" => {
                let value = arguments.next().context("--minutes needs a number")?;
                minutes = value.parse().context("--minutes needs a number")?;
            }
            other => bail!("unknown argument {other}: there is --minutes N"),
        }
    }
    let least = (2 * FEWEST).div_ceil(ROUNDS_PER_MINUTE);
    ensure!(
        minutes >= least,
        "a run of less than {least} minutes has too few rounds for a verdict"
    );
    Ok(wanted.then_some(minutes))
}

/// One sample per round: the least that was seen in its quiet moment.
async fn rounds(world: &World, minutes: usize, tally: &Tally) -> Vec<Sample> {
    let (pid, folders) = (world.compute.pid(), world.folders());
    let mut samples = Vec::new();
    for number in 0..minutes * ROUNDS_PER_MINUTE {
        let end = Instant::now() + ROUND;
        load::run(world, Round::new(number), tally).await;
        world.compute.until_status("running").await;
        let quiet = end.max(Instant::now() + QUIET) - QUIET;
        sleep_until(quiet).await;
        let mut least = Sample::take(pid, &folders);
        while quiet.elapsed() < QUIET {
            sleep(LOOK[0]).await;
            least = least.least(Sample::take(pid, &folders));
        }
        println!("round {number}: {:?}", least.0);
        samples.push(least);
    }
    samples
}

/// Prints the table of quantities; whether none has grown.
fn print_growth(samples: &[Sample], most: &Sample) -> bool {
    println!("  quantity, least of a round     first     half      last      peak    growth");
    let mut flat = true;
    for (at, quantity) in QUANTITIES.iter().enumerate() {
        let values: Vec<_> = samples.iter().map(|sample| sample.0[at]).collect();
        let trend = Trend::of(&values).expect("the arguments ensure that there are enough rounds");
        let grows = trend.grows(quantity.bound);
        flat &= !grows;
        let (first, half, last) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        println!(
            "  {:<24}{first:>12.0}{half:>9.0}{last:>10.0}{:>10.0}{:>10.1} ± {:.1}, {}",
            quantity.name,
            most.0[at],
            trend.growth,
            trend.error,
            if grows { "GROWS" } else { "flat" },
        );
    }
    flat
}

/// Prints the latencies of `/status`; whether they are good.
fn print_latencies(latencies: &Latencies) -> bool {
    let Latencies { micros, failures } = latencies;
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(micros, percent));
    let met = p99 < AIM && failures.is_empty() && !micros.is_empty();
    println!(
        "  /status: p50 {p50} µs, p99 {p99} µs (aim {AIM}), max {max} µs, {} answers, {} failures, {}",
        micros.len(),
        failures.len(),
        if met { "met" } else { "MISSED" },
    );
    for failure in failures.iter().take(5) {
        println!("    {failure}");
    }
    met
}
