//! All states in which a compute can be after what was done to it and what was seen of it.
//!
//! The model does not know when the program takes a step. So it keeps every state that the steps of
//! [`World::next`] can have led to, and drops those that contradict what is seen: a status, an answer,
//! the file of Postgres, an exit code. If none is left, the program has done what it must not do.

use std::collections::HashSet;

use compute_ctl::state::ComputeStatus as Status;

use super::catalog::Catalog;
use super::world::{Fetched, Request, Stage, Work, World};

/// More states than this mean an error in the model.
const MOST: usize = 200_000;

#[derive(Debug, Clone)]
pub struct Belief(HashSet<World>);

impl Belief {
    pub fn new(world: World) -> Self {
        let mut belief = Self(HashSet::from([world]));
        belief.go_on();
        belief
    }

    /// Adds whatever the program can do by itself.
    fn go_on(&mut self) {
        let mut todo: Vec<_> = self.0.iter().cloned().collect();
        while let Some(world) = todo.pop() {
            assert!(self.0.len() < MOST, "the model has too many states, one is {world:?}");
            for next in world.next() {
                if self.0.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
    }

    /// Something that comes from outside.
    pub fn happens(&mut self, change: impl Fn(&mut World)) {
        let worlds = std::mem::take(&mut self.0);
        self.0.extend(worlds.into_iter().map(|mut world| {
            change(&mut world);
            world
        }));
        self.go_on();
    }

    pub fn is_asked(&mut self, id: u32, request: Request, hangs_up: bool) {
        self.happens(|world| world.send(id, request, hangs_up));
    }

    pub fn is_offered(&mut self, offer: Fetched) {
        self.happens(|world| world.offer = offer);
    }

    /// Keeps the states that fit; all of them if none does, and says so.
    fn keep(&mut self, fits: impl Fn(&World) -> Option<World>) -> Result<(), String> {
        let kept: HashSet<_> = self.0.iter().filter_map(fits).collect();
        if kept.is_empty() {
            return Err(self.summary());
        }
        self.0 = kept;
        self.go_on();
        Ok(())
    }

    /// A status that was shown.
    pub fn shows(&mut self, status: Status) -> Result<(), String> {
        self.keep(|world| (world.status == status).then(|| world.clone()))
    }

    /// An answer; `None` if the connection broke.
    pub fn answers(&mut self, id: u32, got: Option<(u16, &str)>) -> Result<(), String> {
        self.keep(|world| {
            let fits = match (world.requests.get(&id), got) {
                (Some(Stage::Answered(answer)), Some((code, body))) => answer.is(code, body),
                (Some(_), None) => world.has_exited(),
                _ => false,
            };
            fits.then(|| {
                world.but(|world| {
                    world.requests.remove(&id);
                })
            })
        })
    }

    /// The number in the configuration file of Postgres.
    pub fn has_file_of(&mut self, number: u32) -> Result<(), String> {
        self.keep(|world| world.may_have_file_of(number).then(|| world.clone()))
    }

    /// The catalog of a real server.
    pub fn has_catalog(&mut self, seen: &Catalog) -> Result<(), String> {
        self.keep(|world| {
            let fits = world.catalog_is_moving() || Catalog::after(&world.applied) == *seen;
            fits.then(|| world.clone())
        })
    }

    pub fn exits(&mut self, code: i32) -> Result<(), String> {
        self.keep(|world| (world.work == Work::Exited(code)).then(|| world.clone()))
    }

    /// The compute may stay as it is with this status.
    pub fn may_rest_in(&self, status: Status) -> bool {
        self.0.iter().any(|world| world.status == status && world.is_at_rest())
    }

    /// Every state that fits this status is one in which the process stays for long before it
    /// ends.
    pub fn stays_long(&self) -> bool {
        self.0.iter().any(|world| matches!(world.work, Work::Linger { long: true, .. }))
    }

    /// The start has failed, so nothing but an end is left.
    pub fn never_started(&self) -> bool {
        self.0.iter().all(|world| world.work == Work::FailedStart)
    }

    pub fn worlds(&self) -> impl Iterator<Item = &World> {
        self.0.iter()
    }

    /// What is possible, for the message of a failed run.
    pub fn summary(&self) -> String {
        let mut lines: Vec<_> = self.0.iter().map(|world| format!("{world:?}")).collect();
        lines.sort();
        lines.truncate(12);
        format!("{} states are possible, such as\n{}", self.0.len(), lines.join("\n"))
    }
}
