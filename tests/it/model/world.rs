//! What is true of a compute at one moment.
//!
//! Pure: no input or output, no clock. `World::next` (in `driver`, which uses `requests` and `ending`)
//! names every step that the program may take from here; where two things happen at once, or depend
//! on a clock, there are several, and `belief` follows all of them. The rules are those of the
//! documents, written down anew and not taken from the program, so that an error there is noticed.

use std::collections::BTreeMap;
use std::fmt;

use compute_ctl::state::ComputeStatus as Status;

use super::steps::Quality;

/// A spec that differs from those of other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spec {
    pub number: u32,
    pub quality: Quality,
}

/// What a refresh gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fetched {
    Spec(Spec),
    /// No usable answer.
    Failure,
    Detached,
}

/// Whether the server is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// Starts with any settings, and answers no SQL.
    Stub,
    Real,
}

/// What the driver does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Work {
    /// It waits for a spec or an event.
    Idle,
    Start(Option<u32>, Spec),
    Configure(u32, Spec),
    Fetch,
    Apply(Spec),
    /// Between two tries of a refresh.
    Pause,
    /// A certificate takes effect; as a round of the statuses or without.
    Renew(bool),
    /// The start has failed; the process stays for a while.
    FailedStart,
    /// Postgres is being stopped, for this reason.
    End(Ending),
    /// The process stays with this exit code; long after a fast `/terminate`.
    Linger {
        code: i32,
        long: bool,
    },
    Exited(i32),
}

/// Requests that the driver has not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queued {
    Configure(u32, Spec),
    Terminate(u32),
}

/// Why Postgres is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The request that is answered.
    Terminate(u32),
    NeverStarted(u32),
    PostgresExited,
    Detached,
    Signal,
}

/// A request as far as its answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    Configure(Spec),
    Terminate {
        fast: bool,
    },
    Refresh,
    Promote,
    /// A prewarm or an offload.
    Cache,
    /// Work in Postgres, which only a compute that runs does; the code of its answer.
    InPostgres(u16),
    /// Refused by what it asks for, and not by the state of Postgres; only if the compute runs.
    Forbidden,
    /// The same answer at any time.
    Always(u16),
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// On its way. A client that hangs up may take it along.
    Sent {
        request: Request,
        hangs_up: bool,
    },
    /// The driver will answer it.
    Accepted,
    /// It waits for the end of a refresh under way.
    Joins {
        hangs_up: bool,
    },
    Promotes,
    InPostgres(u16),
    Answered(Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    pub code: u16,
    pub says: Says,
}

/// What the body must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Says {
    Nothing,
    Text(&'static str),
    /// `invalid compute status: …`
    Status(Status),
    /// A refused refresh, which names the status in another spelling.
    InState(Status),
    /// The LSN of the last sync, or null.
    Lsn(bool),
    /// Either.
    AnyLsn,
}

/// The spec was tried.
pub const FAILED: Answer = Answer { code: 500, says: Says::Text("compute configuration failed") };

/// The compute ends before the request is served.
pub const INTERRUPTED: Answer = Answer { code: 500, says: Says::Text(" is ending") };

impl Answer {
    pub const fn new(code: u16) -> Self {
        Self { code, says: Says::Nothing }
    }

    pub const fn wrong(status: Status) -> Self {
        Self { code: 412, says: Says::Status(status) }
    }

    /// Whether the server has sent this.
    pub fn is(&self, code: u16, body: &str) -> bool {
        code == self.code
            && match self.says {
                Says::Nothing => true,
                Says::AnyLsn => body.starts_with("{\"lsn\":"),
                Says::Lsn(false) => body == "{\"lsn\":null}",
                Says::Lsn(true) => body.starts_with("{\"lsn\":\""),
                text => body.contains(&text.to_string()),
            }
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Status(status) => write!(f, "\"invalid compute status: {status}\""),
            Self::InState(status) => write!(f, "in state {status:?}\""),
            other => write!(f, "{other:?}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub server: Server,
    pub status: Status,
    pub work: Work,
    pub queue: Vec<Queued>,
    /// The spec that Postgres runs with.
    pub in_force: Option<Spec>,
    pub fully_applied: bool,
    /// The specs whose roles and databases were applied, in their order; on a real server.
    pub applied: Vec<u32>,
    pub offer: Fetched,
    /// A refresh is noted.
    pub refresh_wanted: bool,
    /// The last refresh has found nothing new, so the next one may have to wait.
    pub may_rest: bool,
    /// A prewarm or an offload may be running.
    pub may_be_busy: bool,
    /// A certificate that has not been seen.
    pub certificate: bool,
    /// A SIGHUP that has not been served.
    pub hangup: bool,
    /// Postgres has been killed.
    pub crashed: bool,
    /// A signal asks for the end.
    pub signalled: bool,
    /// What `/terminate` says from now on: whether there is an LSN.
    pub terminated: Option<bool>,
    pub requests: BTreeMap<u32, Stage>,
}

impl World {
    /// A process that answers for the first time.
    pub fn new(server: Server, first: Option<Spec>) -> Self {
        Self {
            server,
            status: first.map_or(Status::Empty, |_| Status::Init),
            work: first.map_or(Work::Idle, |spec| Work::Start(None, spec)),
            queue: Vec::new(),
            in_force: None,
            fully_applied: true,
            applied: Vec::new(),
            offer: first.map_or(Fetched::Detached, Fetched::Spec),
            refresh_wanted: false,
            may_rest: false,
            may_be_busy: false,
            certificate: false,
            hangup: false,
            crashed: false,
            signalled: false,
            terminated: None,
            requests: BTreeMap::new(),
        }
    }

    /// The process goes on as it is until something comes from outside, or for some seconds.
    pub fn is_at_rest(&self) -> bool {
        let quiet = !self.signalled && self.queue.is_empty() && self.requests.is_empty();
        quiet
            && match self.work {
                Work::Idle => !self.crashed && !self.status_is_ending(),
                Work::Pause => !self.crashed,
                Work::FailedStart => true,
                _ => false,
            }
    }

    pub fn status_is_ending(&self) -> bool {
        use Status as S;
        let ending = [S::TerminationPendingFast, S::TerminationPendingImmediate, S::Terminated];
        ending.contains(&self.status)
    }

    pub fn has_exited(&self) -> bool {
        matches!(self.work, Work::Exited(_))
    }

    /// Something is being applied, or nothing can be any more.
    pub fn catalog_is_moving(&self) -> bool {
        self.crashed
            || self.signalled
            || self.status_is_ending()
            || matches!(self.work, Work::Start(..) | Work::Configure(..) | Work::Apply(_))
    }

    /// Whether the configuration file may be that of this spec.
    pub fn may_have_file_of(&self, number: u32) -> bool {
        let worked_on = match &self.work {
            Work::Start(_, spec) | Work::Configure(_, spec) | Work::Apply(spec) => Some(*spec),
            _ => None,
        };
        let is_it = |spec: &Spec| spec.number == number;
        self.work == Work::FailedStart
            || self.in_force.as_ref().is_some_and(is_it)
            || worked_on.as_ref().is_some_and(is_it)
    }

    pub fn but(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        change(&mut world);
        world
    }
}
