//! Many lives at once, each on a thread and with a runtime of its own, and the shrinking of those that
//! fail.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use compute_ctl::dev::servers::Server;
use parking_lot::Mutex;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::life::Life;
use super::steps::{Sequence, sequences};
use super::world;

/// Lives at a time: they mostly wait.
const JOBS: u64 = 6;
/// Runs to shrink a failed life with.
const SHRINKS: usize = 40;
/// More failed lives than this say nothing new.
const MOST_FAILURES: usize = 3;

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// The same seed makes the same sequence.
fn tree(seed: u64) -> impl ValueTree<Value = Sequence> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    sequences().new_tree(&mut runner).unwrap()
}

/// Panics with the smallest sequences that fail.
pub fn run(server: &Server, kind: world::Server, cases: u64) {
    let first = number("CCTL_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let jobs = number("CCTL_MODEL_JOBS").unwrap_or(JOBS).min(cases);
    println!("{cases} lives from CCTL_MODEL_SEED={first}, {jobs} at a time");
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while failed.lock().len() < MOST_FAILURES {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + cases {
                        break;
                    }
                    if let Err(why) = live(server, kind, tree(seed).current()) {
                        failed.lock().push((seed, why.clone()));
                        println!("{}", shrunk(server, kind, seed, why));
                    }
                }
            });
        }
    });
    let failed: Vec<_> = failed.into_inner().into_iter().map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "lives that the model does not expect: {failed:?}");
}

/// One life from begin to end; the reason why it failed.
fn live(server: &Server, kind: world::Server, sequence: Sequence) -> Result<(), String> {
    let life = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            Life::start(server.clone(), kind, &sequence).await.live(&sequence.steps).await;
        });
    };
    thread::scope(|scope| scope.spawn(life).join()).map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Looks for a smaller sequence that fails, too. A race may need more than one try to show again, so
/// the smallest is not certain to be found.
fn shrunk(server: &Server, kind: world::Server, seed: u64, why: String) -> String {
    let mut tree = tree(seed);
    let (mut smallest, mut why) = (tree.current(), why);
    let mut goes_on = tree.simplify();
    for _ in 0..SHRINKS {
        if !goes_on {
            break;
        }
        goes_on = match live(server, kind, tree.current()) {
            Err(other) => {
                (smallest, why) = (tree.current(), other);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    format!("CCTL_MODEL_SEED={seed} fails, shrunk to\n{smallest:?}\n{why}")
}
