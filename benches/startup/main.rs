//! Start-up and memory figures:
//! `cargo bench --bench startup [-- [--runs N] [--binary PATH] [CASE...]]`.
//!
//! The real binary against the stand-in storage on loopback, on the newest Postgres of the machine.
//! Speed depends on the machine, so everything is compared with something measured in the same run:
//! what is compared alternates, and each ratio is taken within one round. Read [`cases`] for what
//! is measured; [`parts`] has the unavoidable work that a start is compared with.
//!
//! As root the daemon steps down to `postgres`, as an ordinary user nothing changes.

mod archives;
mod bed;
mod cases;
mod parts;
mod process;
mod samples;

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

/// Rounds of each comparison, unless told otherwise: about a minute and a half in all.
const RUNS: usize = 15;

/// Prints the figures of one case, from that many runs.
type Case = fn(&bed::Bed, usize) -> anyhow::Result<()>;

/// What is measured, in this order; any part of a name chooses.
const CASES: [(&str, Case); 4] = [
    ("first-start", cases::first_start),
    ("own-share", cases::own_share),
    ("restart", cases::restart),
    ("memory", cases::memory),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    if !arguments.wanted {
        println!("start-up figures: run me with `cargo bench --bench startup`");
        return Ok(());
    }
    // One thread for the storage, so that the daemon has a core that nobody else wants.
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

struct Arguments {
    /// `cargo bench` passes `--bench`; without it (`cargo test --all-targets`) nothing is to do.
    wanted: bool,
    runs: usize,
    /// Another build, for a comparison of two.
    binary: PathBuf,
    chosen: Vec<String>,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_compute_ctl"));
        let mut read = Self { wanted: false, runs: RUNS, binary, chosen: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => read.wanted = true,
                "--runs" => {
                    let value = arguments.next().context("--runs needs a number")?;
                    read.runs = value.parse().context("--runs needs a number")?;
                }
                "--binary" => {
                    let path = arguments.next().context("--binary needs a path")?;
                    read.binary = std::path::absolute(path)?;
                }
                name if CASES.iter().any(|(case, _)| case.contains(name)) => {
                    read.chosen.push(name.to_owned());
                }
                other => {
                    let cases = CASES.map(|(case, _)| case).join(", ");
                    bail!("unknown argument {other}: there are --runs N, --binary PATH, {cases}");
                }
            }
        }
        ensure!(read.runs > 0, "--runs needs a number above 0");
        Ok(read)
    }

    fn is_chosen(&self, case: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|name| case.contains(name.as_str()))
    }
}
