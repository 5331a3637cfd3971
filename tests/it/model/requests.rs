//! What the server does with a request in each status (01 §14.3), and what it answers.

use compute_ctl::state::ComputeStatus as Status;

use super::world::{Answer, INTERRUPTED, Queued, Request, Says, Stage, Work, World};

impl World {
    /// A request waits at the server. Of one without an effect only the answer matters.
    pub fn send(&mut self, id: u32, request: Request, hangs_up: bool) {
        let stage = match request {
            Request::Configure(_)
            | Request::Terminate { .. }
            | Request::Refresh
            | Request::Cache => Stage::Sent { request, hangs_up },
            _ if hangs_up => return,
            Request::Always(code) => Stage::Answered(Answer::new(code)),
            request => Stage::Sent { request, hangs_up },
        };
        self.requests.insert(id, stage);
    }

    /// Every way in which a request can go on.
    pub fn served(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for (id, stage) in &self.requests {
            match *stage {
                Stage::Sent { request, hangs_up: false } => {
                    next.extend(self.received(*id, request));
                }
                Stage::Sent { request, hangs_up: true } => {
                    let lost = self.but(|world| world.forget(*id));
                    let served = self.received(*id, request).into_iter().map(|mut world| {
                        match world.requests.get_mut(id) {
                            Some(Stage::Joins { hangs_up }) => *hangs_up = true,
                            _ => world.forget(*id),
                        }
                        world
                    });
                    next.extend(served.chain([lost]));
                }
                Stage::Joins { hangs_up: false } => next.extend(self.joined(*id)),
                Stage::Joins { hangs_up: true } => {
                    let lost = self.but(|world| world.forget(*id));
                    let served = self.joined(*id).into_iter().map(|mut world| {
                        world.forget(*id);
                        world
                    });
                    next.extend(served.chain([lost]));
                }
                Stage::Promotes => next.extend(self.promoted(*id)),
                Stage::InPostgres(code) => next.extend(self.asked_postgres(*id, code)),
                Stage::Accepted | Stage::Answered(_) => {}
            }
        }
        next
    }

    fn forget(&mut self, id: u32) {
        self.requests.remove(&id);
    }

    fn answered(&self, id: u32, answer: Answer) -> Vec<Self> {
        vec![self.but(|world| world.answer(Some(id), answer))]
    }

    fn staged(&self, id: u32, stage: Stage) -> Vec<Self> {
        vec![self.but(|world| {
            world.requests.insert(id, stage);
        })]
    }

    fn received(&self, id: u32, request: Request) -> Vec<Self> {
        let status = self.status;
        let wrong = || self.answered(id, Answer::wrong(status));
        match request {
            Request::Configure(spec) => match status {
                Status::Empty | Status::Running => vec![self.but(|world| {
                    world.requests.insert(id, Stage::Accepted);
                    world.status = Status::ConfigurationPending;
                    world.enqueue(Queued::Configure(id, spec));
                })],
                _ => wrong(),
            },
            Request::Terminate { fast } => self.asked_to_end(id, fast),
            Request::Refresh if status == Status::RefreshConfiguration => {
                self.staged(id, Stage::Joins { hangs_up: false })
            }
            Request::Refresh => self.asked_to_refresh(id),
            Request::Promote if status == Status::Empty || self.status_is_ending() => wrong(),
            Request::Promote => self.staged(id, Stage::Promotes),
            Request::Cache if status == Status::Empty => wrong(),
            // A compute that never had a spec.
            Request::Cache if self.status_is_ending() && self.in_force.is_none() => {
                [wrong(), self.answered(id, Answer::new(202))].concat()
            }
            Request::Cache => {
                let begun = self.but(|world| {
                    world.may_be_busy = true;
                    world.answer(Some(id), Answer::new(202));
                });
                let busy = self.may_be_busy.then(|| self.answered(id, Answer::new(429)));
                [vec![begun], busy.unwrap_or_default()].concat()
            }
            Request::InPostgres(code) if status == Status::Running => {
                self.staged(id, Stage::InPostgres(code))
            }
            Request::Forbidden if status == Status::Running => self.answered(id, Answer::new(403)),
            Request::InPostgres(_) | Request::Forbidden => wrong(),
            Request::Always(code) => self.answered(id, Answer::new(code)),
        }
    }

    /// A request that comes after the driver has gone is dropped with its answer.
    fn enqueue(&mut self, queued: Queued) {
        if self.has_exited() {
            let (Queued::Configure(id, _) | Queued::Terminate(id)) = queued;
            self.answer(Some(id), INTERRUPTED);
        } else {
            self.queue.push(queued);
        }
    }

    fn asked_to_end(&self, id: u32, fast: bool) -> Vec<Self> {
        use Status as S;
        if let Some(has_lsn) = self.terminated {
            let says = if self.work_failed() { Says::AnyLsn } else { Says::Lsn(has_lsn) };
            return self.answered(id, Answer { code: 201, says });
        }
        match self.status {
            S::Empty
            | S::Running
            | S::Failed
            | S::RefreshConfigurationPending
            | S::RefreshConfiguration => vec![self.but(|world| {
                world.requests.insert(id, Stage::Accepted);
                world.status = match fast {
                    true => S::TerminationPendingFast,
                    false => S::TerminationPendingImmediate,
                };
                world.enqueue(Queued::Terminate(id));
            })],
            status => self.answered(id, Answer::wrong(status)),
        }
    }

    /// Only the stay after a failed start ends with this code after a `/terminate`.
    fn work_failed(&self) -> bool {
        matches!(self.work, Work::Linger { code: 1, .. } | Work::Exited(1))
    }

    fn asked_to_refresh(&self, id: u32) -> Vec<Self> {
        let refreshed = self.refreshed().into_iter();
        let answered = refreshed.map(|(mut world, refused)| {
            let answer = match refused {
                None => Answer::new(200),
                Some(status) => Answer { code: 500, says: Says::InState(status) },
            };
            world.answer(Some(id), answer);
            world
        });
        answered.collect()
    }

    /// What a request to refresh leads to, and the status that refuses it.
    pub fn refreshed(&self) -> Vec<(Self, Option<Status>)> {
        let noted = self.but(|world| world.refresh_wanted = true);
        let pending = noted.but(|world| world.status = Status::RefreshConfigurationPending);
        match self.status {
            // Whether the rest is over depends on the clock.
            Status::Running if self.may_rest => vec![(noted, None), (pending, None)],
            Status::Running | Status::Failed | Status::RefreshConfigurationPending => {
                vec![(pending, None)]
            }
            Status::Init => vec![(self.clone(), None)],
            status => vec![(self.clone(), Some(status))],
        }
    }

    /// The refresh under way may have served it, or it begins another one, or has waited too long.
    fn joined(&self, id: u32) -> Vec<Self> {
        let mut next = self.asked_to_refresh(id);
        if self.status == Status::Running {
            next.extend(self.answered(id, Answer::new(200)));
        }
        next
    }

    /// The driver refuses it between two pieces of work: this is a primary already.
    fn promoted(&self, id: u32) -> Vec<Self> {
        let refuses = match self.work {
            Work::Idle => self.in_force.is_some(),
            Work::Start(..) | Work::Configure(..) | Work::Renew(_) => false,
            Work::Fetch | Work::Apply(_) => false,
            _ => true,
        };
        if refuses { self.answered(id, Answer::new(500)) } else { Vec::new() }
    }

    fn asked_postgres(&self, id: u32, code: u16) -> Vec<Self> {
        let mut next = self.answered(id, Answer::new(code));
        let ends = self.crashed
            || matches!(self.work, Work::End(_) | Work::Linger { .. } | Work::Exited(_));
        if ends && code != 500 {
            next.extend(self.answered(id, Answer::new(500)));
        }
        next
    }
}
