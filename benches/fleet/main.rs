//! Many computes on one machine:
//! `cargo bench --bench fleet [-- [--runs N] [--binary PATH] [CASE...]]`.
//!
//! 20, 100 and 400 supervisors start at once, each with a configuration of its own from one control
//! plane, on one stand-in storage. The server is a stand-in that costs nothing, so what is measured
//! is the supervisors. In the case `outage` the control plane refuses requests for half a minute.
//! Needs some 4 processes and 8 MiB for each compute.

#[path = "../common/mod.rs"]
mod common;
mod computes;
mod control_plane;
mod figures;

use std::time::{Duration, Instant};

use common::arguments::Arguments;
use common::process::{Process, pause};
use common::samples::{Samples, heading};
use computes::Fleet;
use figures::Figures;

/// Supervisors of the case, and its name.
const SIZES: [(&str, usize); 3] = [("n20", 20), ("n100", 100), ("n400", 400)];
const OUTAGE: &str = "outage";
/// How long the control plane is away in [`OUTAGE`], shorter than the supervisors try.
const AWAY: Duration = Duration::from_secs(20);
/// Supervisors that meet the outage.
const WAITING: usize = 100;
/// The pause before idle figures: work that follows a start is over.
const SETTLE: Duration = Duration::from_secs(15);
/// How long wake-ups are counted.
const IDLE: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<()> {
    let cases: Vec<_> = SIZES.iter().map(|(name, _)| *name).chain([OUTAGE]).collect();
    let arguments = Arguments::read(1, &cases)?;
    if !arguments.wanted {
        println!("figures of many computes: run me with `cargo bench --bench fleet`");
        return Ok(());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for _ in 0..arguments.runs {
        for (name, count) in SIZES.iter().filter(|(name, _)| arguments.is_chosen(name)) {
            println!("\n{name}");
            let fleet = runtime.block_on(Fleet::new(&arguments.binary, *count))?;
            with_all(&fleet, together)?;
        }
        if arguments.is_chosen(OUTAGE) {
            let fleet = runtime.block_on(Fleet::new(&arguments.binary, WAITING))?;
            fleet.control_plane.set_away(true);
            with_all(&fleet, outage)?;
        }
    }
    Ok(())
}

/// Starts all supervisors, measures, and ends them in order, also after an error.
fn with_all(
    fleet: &Fleet,
    measure: fn(&Fleet, &[Process]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let computes = fleet.start()?;
    let measured = measure(fleet, &computes);
    fleet.end(computes).and(measured)
}

/// All supervisors start at once and then watch.
fn together(fleet: &Fleet, computes: &[Process]) -> anyhow::Result<()> {
    let mut running = Samples::default();
    for compute in computes {
        running.push_time(compute.reached()?);
    }
    let after_start = figures::all(computes)?;
    pause(SETTLE);
    let before = figures::all(computes)?;
    pause(IDLE);
    let after = figures::all(computes)?;

    heading(&format!("{} supervisors start at once", computes.len()));
    running.print("exec to running", "ms");
    let print = |what: &str, unit: &str, of: &dyn Fn(usize) -> f64| {
        let mut samples = Samples::default();
        (0..computes.len()).for_each(|index| samples.push(of(index)));
        samples.print(what, unit);
    };
    let value = |figures: &[Figures], index: usize, of: fn(&Figures) -> f64| {
        figures.get(index).map_or(f64::NAN, of)
    };
    let idle = IDLE.as_secs_f64();
    print("processor time of a start", "ms", &|i| value(&after_start, i, |it| it.cpu_ms));
    print("proportional set size when idle", "MiB", &|i| value(&after, i, |it| it.pss_mib));
    print("resident set size when idle", "MiB", &|i| value(&after, i, |it| it.rss_mib));
    print("open descriptors", "", &|i| value(&after, i, |it| it.descriptors));
    print("threads", "", &|i| value(&after, i, |it| it.threads));
    print("wake-ups when idle", "/s", &|i| {
        (value(&after, i, |it| it.wakeups) - value(&before, i, |it| it.wakeups)) / idle
    });
    print("processor time when idle", "ms/s", &|i| {
        (value(&after, i, |it| it.cpu_ms) - value(&before, i, |it| it.cpu_ms)) / idle
    });
    let requests = fleet.requests();
    println!(
        "  requests for one start: {:.2} at the control plane, {:.2} connections at the pageserver, \
         {:.2} at each safekeeper",
        requests.control_plane / computes.len() as f64,
        requests.pageserver / computes.len() as f64,
        requests.safekeeper / computes.len() as f64,
    );
    Ok(())
}

/// The control plane is away when all ask; then it is back.
fn outage(fleet: &Fleet, computes: &[Process]) -> anyhow::Result<()> {
    pause(AWAY);
    fleet.control_plane.set_away(false);
    let back = Instant::now();
    let mut running = Samples::default();
    for compute in computes {
        compute.reached()?;
        running.push_time(back.elapsed());
    }
    heading(&format!("{WAITING} supervisors, and a control plane that is away for {AWAY:?}"));
    running.print("from its return to running", "ms");
    println!("  requests in each half second after the return:");
    let counts = fleet.control_plane.requests_since(back, Duration::from_millis(500));
    println!("  {counts:?}");
    Ok(())
}
