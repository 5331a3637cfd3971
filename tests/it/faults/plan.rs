//! What the fault matrix consists of: the points at which a compute is held, the faults that meet it
//! there, and what each cell promises. The points come from the enums of the program, so that a new
//! step has its cells by itself.
//!
//! `docs/reference/faults.md` is written from this file.

use std::fmt::{self, Write as _};

use compute_ctl::driver::steps::{EndingStep, PromotePhase, ReconfigurePhase};
use compute_ctl::node::phase::StartPhase;

/// A step of the work of a compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Start(StartPhase),
    Reconfigure(ReconfigurePhase),
    Promote(PromotePhase),
    Ending(EndingStep),
}

/// One of the two sides of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Begin,
    End,
}

/// Where a compute is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub step: Step,
    pub edge: Edge,
}

impl fmt::Display for Point {
    /// The name of its failpoint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (work, step) = match self.step {
            Step::Start(phase) => ("start", phase.name()),
            Step::Reconfigure(phase) => ("reconfigure", phase.name()),
            Step::Promote(phase) => ("promote", phase.name()),
            Step::Ending(step) => ("ending", step.name()),
        };
        let edge = match self.edge {
            Edge::Begin => "begin",
            Edge::End => "end",
        };
        write!(f, "{work}/{step}/{edge}")
    }
}

/// All points, work by work.
pub fn points() -> Vec<Point> {
    let steps = StartPhase::ALL.map(Step::Start).into_iter();
    let steps = steps.chain(ReconfigurePhase::ALL.map(Step::Reconfigure));
    let steps = steps.chain(PromotePhase::ALL.map(Step::Promote));
    let steps = steps.chain(EndingStep::ALL.map(Step::Ending));
    let edges = |step| [Edge::Begin, Edge::End].map(|edge| Point { step, edge });
    steps.flat_map(edges).collect()
}

/// What meets the compute while it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The step fails by itself.
    StepFails,
    Sigterm,
    /// A second SIGINT, later than half a second after the first.
    SigintTwice,
    /// SIGKILL of the supervisor.
    SupervisorKilled,
    /// SIGKILL of the postmaster.
    PostmasterKilled,
    /// SIGSTOP of the postmaster, which is never continued.
    PostmasterStopped,
    TerminateFast,
    TerminateImmediate,
    Configure,
    Refresh,
    /// The client that asked for the work hangs up.
    ClientGone,
    /// The data directory and its parent are made read-only.
    ReadOnly,
    /// The process can open no more descriptors.
    NoDescriptors,
    /// The disk of the data directory is full.
    DiskFull,
    /// The cgroup of the compute has no more memory, so that the kernel kills a process of it, or
    /// refuses a call.
    OutOfMemory,
    /// The clock of the machine jumps by an hour.
    ClockForward,
    ClockBack,
}

impl Fault {
    pub const ALL: [Self; 17] = [
        Self::StepFails,
        Self::Sigterm,
        Self::SigintTwice,
        Self::SupervisorKilled,
        Self::PostmasterKilled,
        Self::PostmasterStopped,
        Self::TerminateFast,
        Self::TerminateImmediate,
        Self::Configure,
        Self::Refresh,
        Self::ClientGone,
        Self::ReadOnly,
        Self::NoDescriptors,
        Self::DiskFull,
        Self::OutOfMemory,
        Self::ClockForward,
        Self::ClockBack,
    ];

    /// As the page names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StepFails => "the step fails",
            Self::Sigterm => "SIGTERM",
            Self::SigintTwice => "SIGINT twice",
            Self::SupervisorKilled => "SIGKILL of `compute_ctl`",
            Self::PostmasterKilled => "SIGKILL of the postmaster",
            Self::PostmasterStopped => "SIGSTOP of the postmaster",
            Self::TerminateFast => "`/terminate?mode=fast`",
            Self::TerminateImmediate => "`/terminate?mode=immediate`",
            Self::Configure => "`/configure`",
            Self::Refresh => "`/refresh_configuration`",
            Self::ClientGone => "the client hangs up",
            Self::ReadOnly => "directory read-only",
            Self::NoDescriptors => "no descriptors left",
            Self::DiskFull => "disk full",
            Self::OutOfMemory => "memory full",
            Self::ClockForward => "clock + 1 h",
            Self::ClockBack => "clock - 1 h",
        }
    }
}

/// What must become of the compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// The work ends as if nothing had happened.
    GoesOn,
    /// The work fails as documented: the failure names its step, and the compute can be used or
    /// ended.
    Fails,
    /// Either of these: it depends on whether the rest of the work needs what the fault has taken.
    GoesOnOrFails,
    /// Any of these, or the end of the process with 1, or by a SIGKILL of the kernel, after which Postgres
    /// may still run: the kernel chooses.
    Anything,
    /// The process ends with this code.
    Ends(i32),
    /// The process is gone, and Postgres may still run.
    Killed,
    /// The table of states decides: a request that is refused changes nothing, one that is accepted
    /// is carried out.
    ByState,
    /// There is nothing that this fault could meet.
    Nothing,
}

impl Promise {
    /// As the page names it.
    pub fn text(self) -> String {
        match self {
            Self::GoesOn => "goes on".to_owned(),
            Self::Fails => "fails".to_owned(),
            Self::GoesOnOrFails => "goes on or fails".to_owned(),
            Self::Anything => "goes on, fails, ends or is killed".to_owned(),
            Self::Ends(code) => format!("ends with {code}"),
            Self::Killed => "next start".to_owned(),
            Self::ByState => "by state".to_owned(),
            Self::Nothing => "-".to_owned(),
        }
    }
}

/// What a cell promises.
pub fn promise(Point { step, edge }: Point, fault: Fault) -> Promise {
    let postmaster = has_postmaster(step, edge);
    match fault {
        Fault::Sigterm | Fault::SigintTwice => Promise::Ends(1),
        Fault::SupervisorKilled => Promise::Killed,
        Fault::ClockForward | Fault::ClockBack => Promise::GoesOn,
        // A promotion writes nothing but what Postgres writes.
        Fault::DiskFull if matches!(step, Step::Promote(_)) => Promise::Nothing,
        Fault::ReadOnly | Fault::NoDescriptors | Fault::DiskFull => Promise::GoesOnOrFails,
        Fault::OutOfMemory => Promise::Anything,
        Fault::PostmasterKilled | Fault::PostmasterStopped if !postmaster => Promise::Nothing,
        Fault::PostmasterKilled => Promise::Ends(1),
        Fault::PostmasterStopped => match step {
            // Ends by a signal, which cuts the wait for Postgres short.
            Step::Ending(_) => Promise::Ends(1),
            Step::Start(_) | Step::Reconfigure(_) | Step::Promote(_) => Promise::GoesOnOrFails,
        },
        Fault::TerminateFast | Fault::TerminateImmediate | Fault::Configure | Fault::Refresh => {
            Promise::ByState
        }
        Fault::ClientGone => match step {
            // Neither has a client that waits.
            Step::Start(_)
            | Step::Reconfigure(ReconfigurePhase::Fetch | ReconfigurePhase::Certificate) => {
                Promise::Nothing
            }
            Step::Reconfigure(_) | Step::Promote(_) | Step::Ending(_) => Promise::GoesOn,
        },
        Fault::StepFails => match step {
            // The full sync decides.
            Step::Start(StartPhase::SafekeeperCheck) => Promise::GoesOn,
            // A refresh is tried again, and so is a certificate.
            Step::Reconfigure(ReconfigurePhase::Fetch | ReconfigurePhase::Certificate) => {
                Promise::GoesOn
            }
            Step::Start(_) | Step::Reconfigure(_) | Step::Promote(_) => Promise::Fails,
            Step::Ending(EndingStep::Sync) => Promise::Ends(1),
            // Nothing in them can fail.
            Step::Ending(_) => Promise::GoesOn,
        },
    }
}

/// Whether Postgres runs at this point.
fn has_postmaster(step: Step, edge: Edge) -> bool {
    match step {
        Step::Start(StartPhase::StartPostgres) => edge == Edge::End,
        Step::Start(StartPhase::ApplyCatalog) | Step::Reconfigure(_) | Step::Promote(_) => true,
        Step::Start(_) => false,
        Step::Ending(EndingStep::Background) => true,
        Step::Ending(EndingStep::Postgres) => edge == Edge::Begin,
        Step::Ending(_) => false,
    }
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub point: Point,
    pub fault: Fault,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.point, self.fault.name())
    }
}

/// All cells that promise something.
pub fn cells() -> Vec<Cell> {
    let row = |point| Fault::ALL.map(|fault| Cell { point, fault });
    let all = points().into_iter().flat_map(row);
    all.filter(|cell| promise(cell.point, cell.fault) != Promise::Nothing).collect()
}

/// The table of the page: a row per point, a column per fault.
pub fn table() -> String {
    let mut text = String::from("| failpoint |");
    for fault in Fault::ALL {
        write!(text, " {} |", fault.name()).unwrap();
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Fault::ALL.len()));
    for point in points() {
        write!(text, "\n| `{point}` |").unwrap();
        for fault in Fault::ALL {
            write!(text, " {} |", promise(point, fault).text()).unwrap();
        }
    }
    text.push('\n');
    text
}
