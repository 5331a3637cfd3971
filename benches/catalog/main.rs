//! Figures of the catalog: `cargo bench --bench catalog [-- [--runs N] [--binary PATH] [CASE...]]`.
//!
//! The real binary against the stand-in storage on loopback, on the newest Postgres of the machine
//! with the settings that it has by itself (`fsync` among them). An apply is a `/configure`, timed
//! by the client that sends it. What it is compared with runs on the same server in the same round,
//! before or after it by turns. `psql` and `pgbench` may belong to another version.
//!
//! As root the daemon steps down to `postgres`, as an ordinary user nothing changes.

mod bed;
mod cases;
#[path = "../http/client.rs"]
mod client;
mod load;
#[path = "../startup/process.rs"]
mod process;
#[path = "../startup/samples.rs"]
mod samples;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// Rounds of each comparison, unless told otherwise: about three minutes in all.
const RUNS: usize = 7;
/// A thousand databases take a while where the disk is slow.
const PATIENCE: Duration = Duration::from_secs(600);

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
    let arguments = Arguments::read()?;
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
