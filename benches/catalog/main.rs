//! Figures of the catalog: `cargo bench --bench catalog [-- [--runs N] [--binary PATH] [CASE...]]`.
//!
//! The real binary against the stand-in storage on loopback, on the newest Postgres of the machine
//! with its default settings (`fsync` among them). An apply is a `/configure`, timed by the client
//! that sends it. Its comparison runs on the same server in the same round, alternately before and
//! after it. `psql` and `pgbench` may belong to another version.
//!
//! As root the daemon steps down to `postgres`, as an ordinary user nothing changes.

mod bed;
mod by_hand;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod load;

use common::arguments::Arguments;

/// Rounds of each comparison, unless told otherwise: about three minutes in all.
const RUNS: usize = 7;

/// Prints the figures of one case, from that many runs.
type Case = fn(&bed::Bed, usize) -> anyhow::Result<()>;

/// What is measured, in this order; any part of a name chooses.
const CASES: [(&str, Case); 4] = [
    ("small", cases::small),
    ("hundred", cases::hundred),
    ("thousand", cases::thousand),
    ("users", load::users),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(RUNS, &CASES.map(|(name, _)| name))?;
    if !arguments.wanted {
        println!("figures of the catalog: run me with `cargo bench --bench catalog`");
        return Ok(());
    }
    let bed = bed::Bed::new(arguments.binary.clone())?;
    println!(
        "PostgreSQL {}, psql and pgbench of {}, {} rounds, in {}",
        bed.server.version,
        bed.clients.version,
        arguments.runs,
        bed.dir().display()
    );
    for (name, case) in CASES {
        if arguments.is_chosen(name) {
            case(&bed, arguments.runs)?;
        }
    }
    Ok(())
}
