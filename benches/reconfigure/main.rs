//! `/configure` on a running compute: `cargo bench --bench reconfigure [-- [--runs N] [--binary PATH]]`.
//!
//! The real binary on the newest Postgres of the machine, stand-in storage on loopback, the catalog
//! skipped. Measured from the connect of the client to the last byte of the answer, which is given
//! when Postgres has loaded the new file. After each round a new SQL session must show the new
//! value; that is not counted.

mod bed;
#[path = "../common/mod.rs"]
mod common;

use common::arguments::Arguments;
use common::samples::{Samples, heading, verdict};

/// Rounds of each case, unless told otherwise: some seconds.
const RUNS: usize = 200;
/// Not counted: warms the caches.
const WARM_UP: usize = 5;
/// Milliseconds, of the median.
const AIM: f64 = 10.0;

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

    let [mut moved, mut changed] = std::array::from_fn(|_| Samples::default());
    for round in 0..WARM_UP + runs {
        let times = [bed.move_tenant(round)?, bed.change_setting(round)?];
        runtime.block_on(bed.assert_in_force(round))?;
        if round >= WARM_UP {
            moved.push_time(times[0]);
            changed.push_time(times[1]);
        }
    }
    heading("/configure with skip_pg_catalog_updates, request to confirmed reload");
    moved.print("the tenant has another pageserver", "ms");
    verdict("median", moved.median(), AIM, "ms");
    changed.print("another value in cluster.settings (checked)", "ms");
    verdict("median", changed.median(), AIM, "ms");
    bed.stop()
}
