//! What happens in a round.

mod connections;
mod reconfigure;
mod services;

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::world::World;
use crate::support::assertions::eventually;

/// Every so many rounds, the first included, as many clients as can be come at once.
const SURGE_EVERY: usize = 8;

/// One round.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub number: usize,
    surges: bool,
}

impl Round {
    pub const fn new(number: usize) -> Self {
        Self { number, surges: number.is_multiple_of(SURGE_EVERY) }
    }
}

/// How often each thing has happened.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, usize>>);

impl Tally {
    fn add(&self, what: &'static str, times: usize) {
        *self.0.lock().entry(what).or_default() += times;
    }

    pub fn count(&self, what: &'static str) -> usize {
        self.0.lock().get(what).copied().unwrap_or_default()
    }

    pub fn print(&self) {
        for (what, count) in &*self.0.lock() {
            println!("  {what:<44}{count:>10}");
        }
    }
}

/// Requests that never got an answer.
pub const UNANSWERED: &str = "requests without an answer";

/// All loads of a round, at once; ends when the last one has ended.
pub async fn run(world: &World, round: Round, tally: &Tally) {
    tokio::join!(
        reconfigure::run(world, round, tally),
        services::caches(world, tally),
        services::renewal(world, tally),
        services::agents(world, round, tally),
        services::log_flood(world, tally),
        connections::stalled(world, round.surges, tally),
        connections::busy(world, round.surges, tally),
    );
    eventually("the log has the whole flood", || {
        world.compute.log().contains(services::FLOOD_IS_OVER)
    })
    .await;
    let log = world.compute.log();
    assert!(!log.contains("panicked at"), "{log}");
    world.compute.forget_log();
    world.storage.forget();
}
