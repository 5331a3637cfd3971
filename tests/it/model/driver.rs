//! The steps that the driver takes by itself (01 §8, §13), and those that a signal causes.

use compute_ctl::state::ComputeStatus as Status;

use super::steps::Quality;
use super::world::{Answer, Ending, FAILED, Fetched, Queued, Says, Server, Spec, Work, World};

impl World {
    /// Every state that the next step of the program can lead to.
    pub fn next(&self) -> Vec<Self> {
        let mut next = self.served();
        next.extend(self.driven());
        if self.hangup {
            next.extend(self.hung_up());
        }
        let over = self.has_exited() || matches!(self.work, Work::FailedStart | Work::End(_));
        if self.signalled && !over && !matches!(self.work, Work::Linger { .. }) {
            next.push(self.but(|world| world.abandon(Ending::Signal)));
        } else if self.signalled && !self.has_exited() {
            next.push(self.but(|world| world.exit(1)));
        }
        next
    }

    /// SIGHUP is a refresh where a refresh can have an effect.
    fn hung_up(&self) -> Vec<Self> {
        let ignored = self.but(|world| world.hangup = false);
        match self.status {
            Status::Init => Vec::new(),
            Status::Running | Status::RefreshConfigurationPending => {
                ignored.refreshed().into_iter().map(|(world, _)| world).collect()
            }
            Status::Failed if self.work != Work::FailedStart => {
                ignored.refreshed().into_iter().map(|(world, _)| world).collect()
            }
            _ => vec![ignored],
        }
    }

    fn driven(&self) -> Vec<Self> {
        match &self.work {
            Work::Idle => self.idle(),
            Work::Start(request, spec) => self.started(*request, *spec),
            Work::Configure(request, spec) => self.configured(*request, *spec),
            Work::Fetch => self.fetched(),
            Work::Apply(spec) => self.applied(*spec),
            Work::Pause => self.paused(),
            Work::Renew(round) => self.renewed(*round),
            Work::FailedStart => self.stays_failed(),
            Work::End(ending) => self.ended(ending),
            Work::Linger { code, .. } => vec![self.but(|world| world.exit(*code))],
            Work::Exited(_) => Vec::new(),
        }
    }

    fn idle(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let has_postgres = self.in_force.is_some();
        if self.crashed && has_postgres {
            next.push(self.but(|world| world.abandon(Ending::PostgresExited)));
        }
        match self.queue.first().copied() {
            Some(Queued::Configure(request, spec)) => next.push(self.but(|world| {
                world.queue.remove(0);
                if has_postgres {
                    world.status = Status::Configuration;
                    world.work = Work::Configure(request, spec);
                } else {
                    world.status = Status::Init;
                    world.work = Work::Start(Some(request), spec);
                }
            })),
            Some(Queued::Terminate(request)) => next.push(self.but(|world| {
                world.queue.remove(0);
                world.work = Work::End(match has_postgres {
                    true => Ending::Terminate(request),
                    false => Ending::NeverStarted(request),
                });
            })),
            None => {}
        }
        let may_refresh = match self.status {
            Status::Running => self.refresh_wanted,
            Status::RefreshConfigurationPending => true,
            _ => false,
        };
        if may_refresh {
            next.push(self.but(World::begin_refresh));
        }
        if self.certificate && has_postgres {
            next.push(self.but(|world| {
                let round = world.status == Status::Running;
                world.certificate = false;
                world.work = Work::Renew(round);
                if round {
                    world.status = Status::Configuration;
                }
            }));
        }
        next
    }

    fn begin_refresh(&mut self) {
        self.refresh_wanted = false;
        self.may_rest = false;
        self.status = Status::RefreshConfiguration;
        self.work = Work::Fetch;
    }

    fn started(&self, request: Option<u32>, spec: Spec) -> Vec<Self> {
        let fails = match spec.quality {
            Quality::Good => false,
            Quality::Refused => self.server == Server::Real,
            Quality::Catalog => true,
        };
        let mut next = Vec::new();
        if !fails {
            next.push(self.but(|world| {
                world.status = Status::Running;
                world.put_in_force(spec);
                world.work = Work::Idle;
                world.answer(request, Answer::new(200));
            }));
        }
        if fails || self.crashed {
            next.push(self.but(|world| {
                world.status = Status::Failed;
                world.work = Work::FailedStart;
                world.answer(request, FAILED);
            }));
        }
        next
    }

    fn configured(&self, request: u32, spec: Spec) -> Vec<Self> {
        let mut next = self.postgres_may_have_ended();
        next.extend(self.may_be_taken_as(spec).iter().map(|quality| {
            self.but(|world| {
                world.work = Work::Idle;
                let answer = world.apply(spec, *quality, Status::Failed);
                world.answer(Some(request), answer);
            })
        }));
        if self.crashed && self.server == Server::Real {
            // The sessions break before the end of Postgres is seen.
            next.push(self.but(|world| {
                world.work = Work::Idle;
                world.fully_applied = false;
                world.status = Status::Failed;
                world.answer(Some(request), FAILED);
            }));
        }
        next
    }

    /// The stub starts with a setting that Postgres does not know. It is not checked again then, unless
    /// settings beside it have changed.
    fn may_be_taken_as(&self, spec: Spec) -> &'static [Quality] {
        match (spec.quality, self.in_force.map(|spec| spec.quality)) {
            (Quality::Good, _) => &[Quality::Good],
            (Quality::Refused, Some(Quality::Refused)) => &[Quality::Refused, Quality::Good],
            (Quality::Refused, _) => &[Quality::Refused],
            (Quality::Catalog, _) => &[Quality::Catalog],
        }
    }

    /// Puts a spec of this quality in force if it can be; the status after a failure is given. The status of a
    /// compute that has been asked to end stays.
    fn apply(&mut self, spec: Spec, quality: Quality, failed: Status) -> Answer {
        let (status, answer) = match quality {
            Quality::Good => {
                self.put_in_force(spec);
                self.fully_applied = true;
                (Status::Running, Answer::new(200))
            }
            Quality::Refused => match failed {
                Status::Failed => {
                    let text = Says::Text("phase check_configuration");
                    (Status::Running, Answer { code: 400, says: text })
                }
                failed => (failed, FAILED),
            },
            Quality::Catalog => {
                self.fully_applied = false;
                self.may_rest = false;
                (failed, Answer { code: 500, says: Says::Text("phase apply_catalog") })
            }
        };
        if !self.status_is_ending() {
            self.status = status;
        }
        answer
    }

    fn put_in_force(&mut self, spec: Spec) {
        self.in_force = Some(spec);
        if self.server == Server::Real && self.applied.last() != Some(&spec.number) {
            self.applied.push(spec.number);
        }
    }

    fn fetched(&self) -> Vec<Self> {
        let mut next = self.postgres_may_have_ended();
        if self.status_is_ending() {
            next.push(self.but(|world| world.work = Work::Idle));
        }
        next.push(self.but(|world| match world.offer {
            Fetched::Spec(spec) if world.in_force == Some(spec) && world.fully_applied => {
                world.may_rest = true;
                world.after_refresh(true);
            }
            Fetched::Spec(spec) => world.work = Work::Apply(spec),
            Fetched::Failure => world.after_refresh(false),
            Fetched::Detached => world.abandon(Ending::Detached),
        }));
        next
    }

    fn after_refresh(&mut self, worked: bool) {
        let ending = self.status_is_ending();
        (self.status, self.work) = match worked {
            _ if ending => (self.status, Work::Idle),
            true => (Status::Running, Work::Idle),
            false => (Status::RefreshConfigurationPending, Work::Pause),
        };
        if !worked {
            self.may_rest = false;
        }
    }

    fn applied(&self, spec: Spec) -> Vec<Self> {
        let mut next = self.postgres_may_have_ended();
        if self.status_is_ending() {
            next.push(self.but(|world| world.work = Work::Idle));
        }
        next.extend(self.may_be_taken_as(spec).iter().map(|quality| {
            self.but(|world| {
                let again = world.in_force == Some(spec);
                world.apply(spec, *quality, Status::RefreshConfigurationPending);
                let worked = *quality == Quality::Good;
                world.after_refresh(worked);
                world.may_rest = worked && again;
            })
        }));
        if self.crashed && self.server == Server::Real {
            next.push(self.but(|world| {
                world.fully_applied = false;
                world.after_refresh(false);
            }));
        }
        next
    }

    fn paused(&self) -> Vec<Self> {
        let mut next = self.postgres_may_have_ended();
        if self.status_is_ending() {
            next.push(self.but(|world| world.work = Work::Idle));
        } else {
            // A clock, or another request.
            next.push(self.but(World::begin_refresh));
        }
        next
    }

    fn renewed(&self, round: bool) -> Vec<Self> {
        let mut next = self.postgres_may_have_ended();
        next.push(self.but(|world| {
            world.work = Work::Idle;
            if round {
                world.status = Status::Running;
            }
        }));
        next
    }
}
