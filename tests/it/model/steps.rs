//! The events that a compute can meet.

use proptest::prelude::*;

/// One life of a compute.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Whether it is given a spec at the start, or begins empty.
    pub attached: bool,
    pub steps: Vec<Step>,
}

/// No step waits for an earlier one, except [`Step::Settle`].
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Configure(Quality),
    Refresh,
    ControlPlane(Answer),
    /// Another key and certificate on disk.
    Certificate,
    /// Postgres is killed.
    Crash,
    Terminate {
        fast: bool,
    },
    Signal,
    /// Waits for all answers, and until the compute has nothing left to do.
    Settle,
    /// Milliseconds.
    Pause(u64),
}

/// The spec of a `/configure`.
#[derive(Debug, Clone, Copy)]
pub enum Quality {
    Good,
    /// A spec that Postgres refuses.
    Refused,
    /// A spec with roles and databases; the fake knows no SQL.
    Catalog,
    /// A spec without a tenant.
    Unusable,
}

/// The control plane's answer from here on.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// A new spec.
    Another,
    /// A spec that Postgres refuses.
    Refused,
    Malformed,
    Down,
    Forbidden,
    Detached,
}

pub fn sequences() -> impl Strategy<Value = Sequence> {
    let steps = proptest::collection::vec(step(), 1..16);
    (any::<bool>(), steps).prop_map(|(attached, steps)| Sequence { attached, steps })
}

fn step() -> impl Strategy<Value = Step> {
    let quality = prop_oneof![
        6 => Just(Quality::Good),
        1 => Just(Quality::Refused),
        1 => Just(Quality::Catalog),
        1 => Just(Quality::Unusable),
    ];
    let answer = prop_oneof![
        6 => Just(Answer::Another),
        1 => Just(Answer::Refused),
        1 => Just(Answer::Malformed),
        2 => Just(Answer::Down),
        1 => Just(Answer::Forbidden),
        1 => Just(Answer::Detached),
    ];
    prop_oneof![
        12 => quality.prop_map(Step::Configure),
        10 => Just(Step::Refresh),
        6 => answer.prop_map(Step::ControlPlane),
        4 => Just(Step::Certificate),
        6 => Just(Step::Settle),
        8 => (0..40_u64).prop_map(Step::Pause),
        1 => Just(Step::Crash),
        2 => any::<bool>().prop_map(|fast| Step::Terminate { fast }),
        1 => Just(Step::Signal),
    ]
}
