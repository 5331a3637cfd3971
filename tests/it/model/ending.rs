//! How a compute ends (01 §18).

use compute_ctl::state::ComputeStatus as Status;

use super::world::{Answer, Ending, INTERRUPTED, Queued, Says, Stage, Work, World};

impl World {
    pub fn postgres_may_have_ended(&self) -> Vec<Self> {
        match self.crashed {
            true => vec![self.but(|world| world.abandon(Ending::PostgresExited))],
            false => Vec::new(),
        }
    }

    /// The work is cut short: its caller gets no other answer.
    pub fn abandon(&mut self, ending: Ending) {
        let cut = match self.work {
            Work::Start(request, _) => request,
            Work::Configure(request, _) => Some(request),
            _ => None,
        };
        self.answer(cut, INTERRUPTED);
        self.work = Work::End(ending);
    }

    pub fn stays_failed(&self) -> Vec<Self> {
        let mut next = vec![self.but(|world| world.exit(1))];
        if let Some(Queued::Terminate(request)) = self.queue.first().copied() {
            next.push(self.but(|world| {
                world.queue.remove(0);
                world.status = Status::Terminated;
                world.terminated = Some(false);
                world.answer(Some(request), Answer { code: 200, says: Says::AnyLsn });
                world.work = Work::Linger { code: 1, long: false };
            }));
        }
        next
    }

    pub fn ended(&self, ending: &Ending) -> Vec<Self> {
        let mut next = Vec::new();
        let unasked = matches!(ending, Ending::PostgresExited | Ending::Detached | Ending::Signal);
        if unasked && !self.status_is_ending() {
            next.push(self.but(|world| world.status = Status::TerminationPendingImmediate));
            return next;
        }
        let has_lsn = matches!(ending, Ending::PostgresExited | Ending::Terminate(_));
        let long = self.status == Status::TerminationPendingFast;
        let mut codes = vec![match ending {
            Ending::NeverStarted(_) | Ending::Terminate(_) => 0,
            Ending::PostgresExited | Ending::Detached | Ending::Signal => 1,
        }];
        if matches!(ending, Ending::Terminate(_)) && self.crashed {
            codes.push(1);
        }
        for code in codes {
            next.push(self.but(|world| match ending {
                Ending::Signal => world.exit(code),
                Ending::Detached => {
                    world.terminate(None, has_lsn);
                    world.exit(code);
                }
                Ending::PostgresExited => {
                    world.terminate(None, has_lsn);
                    world.work = Work::Linger { code, long };
                }
                Ending::Terminate(request) | Ending::NeverStarted(request) => {
                    world.terminate(Some(*request), has_lsn);
                    world.work = Work::Linger { code, long };
                }
            }));
        }
        next
    }

    /// Publishes the end, and answers everything that waits for it.
    fn terminate(&mut self, request: Option<u32>, has_lsn: bool) {
        self.status = Status::Terminated;
        self.terminated = Some(has_lsn);
        let answer = Answer { code: 200, says: Says::Lsn(has_lsn) };
        self.answer(request, answer);
        for queued in std::mem::take(&mut self.queue) {
            match queued {
                Queued::Terminate(request) => self.answer(Some(request), answer),
                Queued::Configure(request, _) => self.answer(Some(request), INTERRUPTED),
            }
        }
    }

    /// The driver is gone: what waits for it is answered.
    pub fn exit(&mut self, code: i32) {
        if self.work != Work::FailedStart && !self.status_is_ending() {
            self.status = Status::TerminationPendingImmediate;
        }
        let cut = match self.work {
            Work::End(Ending::Terminate(request) | Ending::NeverStarted(request)) => Some(request),
            _ => None,
        };
        self.answer(cut, INTERRUPTED);
        for queued in std::mem::take(&mut self.queue) {
            let (Queued::Terminate(request) | Queued::Configure(request, _)) = queued;
            self.answer(Some(request), INTERRUPTED);
        }
        self.work = Work::Exited(code);
    }

    pub fn answer(&mut self, request: Option<u32>, answer: Answer) {
        let Some(request) = request else { return };
        // A client that has hung up is not in the list.
        if let Some(stage) = self.requests.get_mut(&request) {
            *stage = Stage::Answered(answer);
        }
    }
}
