//! Start-up and memory figures:
//! `cargo bench --bench startup [-- [--runs N] [--binary PATH] [CASE...]]`.
//!
//! The real binary against the stand-in storage on loopback, on the newest Postgres of the machine.
//! Speed depends on the machine, so everything is compared with something measured in the same run:
//! what is compared alternates, and each ratio is taken within one round. Read [`cases`] for what
//! is measured, and [`flow`], [`pool`] and [`ending`] for large archives, a warm pool and the end; [`parts`] has the
//! unavoidable work that a start is compared with.
//!
//! As root the daemon steps down to `postgres`, as an ordinary user nothing changes.

mod archives;
mod bed;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod ending;
mod flow;
mod instructions;
mod parts;
mod pool;

use common::arguments::Arguments;

/// Rounds of each comparison, unless told otherwise: about a minute and a half in all.
const RUNS: usize = 15;

/// Prints the figures of one case, from that many runs.
type Case = fn(&bed::Bed, usize) -> anyhow::Result<()>;

/// What is measured, in this order; any part of a name chooses.
const CASES: [(&str, Case); 8] = [
    ("first-start", cases::first_start),
    ("own-share", cases::own_share),
    ("instructions", instructions::count),
    ("restart", cases::restart),
    ("memory", cases::memory),
    ("large", flow::large),
    ("pool", pool::empty),
    ("ending", ending::terminate),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(RUNS, &CASES.map(|(name, _)| name))?;
    if !arguments.wanted {
        println!("start-up figures: run me with `cargo bench --bench startup`");
        return Ok(());
    }
    // One thread for the storage, so that the daemon has a core of its own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let bed = runtime.block_on(bed::Bed::new(arguments.binary.clone()))?;
    let (version, runs) = (&bed.server.version, arguments.runs);
    println!("PostgreSQL {version}, {runs} rounds, in {}, {}", bed.dir().display(), bed.who());
    for (name, case) in CASES {
        if arguments.is_chosen(name) {
            case(&bed, runs)?;
        }
    }
    Ok(())
}
