//! `/configure` on a running compute: `cargo bench --bench reconfigure [-- [--runs N] [--binary PATH]]`.
//!
//! The real binary on the newest Postgres of the machine, stand-in storage on loopback, the catalog
//! skipped. Measured from the connect of the client to the last byte of the answer, which is given
//! when Postgres has loaded the new file. After each round a new SQL session must show the new
//! values; that is not counted.
//!
//! The floor, in the same rounds: the same file written by hand, a SIGHUP, and new sessions until one
//! sees the value; for a setting that Postgres may refuse, also its own check, run alone.

mod bed;
#[path = "../common/mod.rs"]
mod common;

use common::arguments::Arguments;
use common::samples::{Samples, heading, milliseconds, verdict};

/// Rounds of each case, unless told otherwise: some seconds.
const RUNS: usize = 200;
/// Not counted: warms the caches.
const WARM_UP: usize = 5;
/// Milliseconds over the floor, of the median.
const AIM: f64 = 3.0;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(RUNS, &[])?;
    if !arguments.wanted {
        println!("reconfiguration figures: run me with `cargo bench --bench reconfigure`");
        return Ok(());
    }
    let runs = arguments.runs;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut bed = runtime.block_on(bed::Bed::new(arguments.binary))?;
    println!("PostgreSQL {}, {runs} rounds", bed.version());

    let [mut hand, mut check] = std::array::from_fn(|_| Samples::default());
    let [mut moved, mut custom, mut checked] =
        std::array::from_fn(|_| [(); 2].map(|()| Samples::default()));
    for round in 0..WARM_UP + runs {
        let by_hand = milliseconds(runtime.block_on(bed.by_hand(round))?);
        let alone = milliseconds(bed.check_alone()?);
        let times = [
            (&mut moved, bed.move_tenant(round)?, by_hand),
            (&mut custom, bed.change_setting(round)?, by_hand),
            (&mut checked, bed.change_checked(round)?, by_hand + alone),
        ];
        runtime.block_on(bed.assert_in_force(round))?;
        if round < WARM_UP {
            continue;
        }
        hand.push(by_hand);
        check.push(alone);
        for ([all, over], time, floor) in times {
            all.push_time(time);
            over.push(milliseconds(time) - floor);
        }
    }
    heading("/configure with skip_pg_catalog_updates, request to confirmed reload");
    hand.print("floor: file, SIGHUP, sessions until one sees it", "ms");
    check.print("floor of a check: `postgres -C` alone", "ms");
    for (what, [all, over]) in [
        ("the tenant has another pageserver", moved),
        ("another value of an extension's setting", custom),
        ("another value of a setting that is checked", checked),
    ] {
        all.print(what, "ms");
        over.print("  over its floor, round by round", "ms");
        verdict("over the floor, median", over.median(), AIM, "ms");
    }
    bed.stop()
}
