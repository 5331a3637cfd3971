//! Random sequences of all events that a compute can meet, against the real binary.
//!
//! Postgres is a fake that costs nothing, the rest is real. For every sequence: every status change
//! is in the table, every request is answered in time, accepted requests took effect and refused
//! ones did not, and the process ends when and only when it must, with the exit code of one of the
//! reasons.
//!
//! `CCTL_MODEL_CASES` runs more than the usual few sequences, `CCTL_MODEL_SEED` repeats those of a
//! failed run.

mod run;
mod steps;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::server::on_one_server;
use run::Run;

/// A sequence takes about a second.
const CASES: u64 = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// The same seed makes the same sequence.
fn sequence(seed: u64) -> steps::Sequence {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    steps::sequences().new_tree(&mut runner).unwrap().current()
}

#[tokio::test]
async fn whatever_comes_in_whatever_order() {
    on_one_server(|server| async move {
        let first = number("CCTL_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
        for seed in first..first + number("CCTL_MODEL_CASES").unwrap_or(CASES) {
            let sequence = sequence(seed);
            println!("CCTL_MODEL_SEED={seed}: {sequence:?}");
            let mut run = Run::start(server.clone(), sequence.attached).await;
            for step in sequence.steps {
                run.step(step).await;
            }
            run.finish().await;
        }
    })
    .await;
}
