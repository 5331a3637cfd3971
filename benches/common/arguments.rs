//! The command line of a benchmark, with or without cases to choose from.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

/// The parsed command line.
pub struct Arguments {
    /// `cargo bench` passes `--bench`; without it (`cargo test --all-targets`) a benchmark does
    /// nothing.
    pub wanted: bool,
    /// Rounds.
    pub runs: usize,
    /// Another build, for a comparison of two.
    pub binary: PathBuf,
    chosen: Vec<String>,
}

impl Arguments {
    /// Parses the command line; any part of a name in `cases` chooses that case.
    pub fn read(runs: usize, cases: &[&str]) -> anyhow::Result<Self> {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_compute_ctl"));
        let mut read = Self { wanted: false, runs, binary, chosen: Vec::new() };
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
                name if cases.iter().any(|case| case.contains(name)) => {
                    read.chosen.push(name.to_owned());
                }
                other => {
                    let known = [&["--runs N", "--binary PATH"], cases].concat().join(", ");
                    bail!("unknown argument {other}: there are {known}");
                }
            }
        }
        ensure!(read.runs > 0, "--runs needs a number above 0");
        Ok(read)
    }

    /// Whether a case is to run.
    pub fn is_chosen(&self, case: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|name| case.contains(name.as_str()))
    }
}
