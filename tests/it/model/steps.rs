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
    Ask {
        asked: Asked,
        /// The client hangs up after so many milliseconds.
        hangs_up: Option<u64>,
    },
    ControlPlane(Offer),
    /// Another key and certificate on disk.
    Certificate,
    /// Postgres is killed.
    Crash,
    /// Postgres is stopped for so many milliseconds.
    Freeze(u64),
    Signal(Signal),
    /// Waits for all answers, and until the compute has nothing left to do.
    Settle,
    /// Milliseconds.
    Pause(u64),
}

/// A request that may change something.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    Configure(Body),
    Terminate(Mode),
    Refresh,
    /// To a spec of a primary, which this compute already is.
    Promote,
    Prewarm,
    CancelPrewarm,
    Offload,
    Writability,
    Insights,
    Grants,
    /// Of a schema that requests must not touch.
    ForbiddenGrants,
    Extension,
    /// One that the program manages itself.
    ForbiddenExtension,
    /// The compute has no gateway.
    ExtensionFiles,
    NoSuchPath,
    WrongMethod,
}

#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Fast,
    Immediate,
    /// A query that names no mode.
    Unknown,
}

/// The body of a `/configure`.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// A new spec.
    New(Quality),
    /// The spec that was made last, again.
    Same,
    /// A spec without a tenant.
    Unusable,
    /// A tenant of 31 digits.
    WrongShape,
    /// Not JSON.
    Malformed,
}

/// What becomes of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quality {
    Good,
    /// Postgres does not know one of its settings.
    Refused,
    /// It has roles and databases that cannot be applied.
    Catalog,
}

/// The control plane's answer from here on.
#[derive(Debug, Clone, Copy)]
pub enum Offer {
    New(Quality),
    /// The spec that was made last, again.
    Same,
    Malformed,
    Down,
    Forbidden,
    /// It accepts the request, and answers 503 at the next [`Step::Settle`].
    Stalls,
    /// It closes the connection.
    Resets,
    Detached,
}

#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Term,
    Int,
    Quit,
    /// SIGTERM, and again after so many milliseconds.
    Twice(u64),
    Hangup,
    /// One without a meaning.
    User,
}

pub fn sequences() -> impl Strategy<Value = Sequence> {
    let steps = proptest::collection::vec(step(), 1..16);
    (any::<bool>(), steps).prop_map(|(attached, steps)| Sequence { attached, steps })
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![8 => Just(Quality::Good), 1 => Just(Quality::Refused), 1 => Just(Quality::Catalog)]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        9 => quality().prop_map(Body::New),
        2 => Just(Body::Same),
        1 => Just(Body::Unusable),
        1 => Just(Body::WrongShape),
        1 => Just(Body::Malformed),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        18 => body().prop_map(Asked::Configure),
        12 => Just(Asked::Refresh),
        1 => Just(Asked::Terminate(Mode::Fast)),
        1 => Just(Asked::Terminate(Mode::Immediate)),
        1 => Just(Asked::Terminate(Mode::Unknown)),
        1 => Just(Asked::Promote),
        1 => Just(Asked::Prewarm),
        1 => Just(Asked::CancelPrewarm),
        1 => Just(Asked::Offload),
        1 => Just(Asked::Writability),
        1 => Just(Asked::Insights),
        1 => Just(Asked::Grants),
        1 => Just(Asked::ForbiddenGrants),
        1 => Just(Asked::Extension),
        1 => Just(Asked::ForbiddenExtension),
        1 => Just(Asked::ExtensionFiles),
        1 => Just(Asked::NoSuchPath),
        1 => Just(Asked::WrongMethod),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let hangs_up = prop_oneof![6 => Just(None), 1 => (0..60_u64).prop_map(Some)];
    let offer = prop_oneof![
        6 => quality().prop_map(Offer::New),
        2 => Just(Offer::Same),
        1 => Just(Offer::Malformed),
        1 => Just(Offer::Down),
        1 => Just(Offer::Forbidden),
        1 => Just(Offer::Stalls),
        1 => Just(Offer::Resets),
        1 => Just(Offer::Detached),
    ];
    let signal = prop_oneof![
        1 => Just(Signal::Term),
        1 => Just(Signal::Int),
        1 => Just(Signal::Quit),
        1 => prop_oneof![0..100_u64, 500..700_u64].prop_map(Signal::Twice),
        6 => Just(Signal::Hangup),
        1 => Just(Signal::User),
    ];
    prop_oneof![
        24 => (asked(), hangs_up).prop_map(|(asked, hangs_up)| Step::Ask { asked, hangs_up }),
        6 => offer.prop_map(Step::ControlPlane),
        3 => Just(Step::Certificate),
        7 => Just(Step::Settle),
        8 => (0..40_u64).prop_map(Step::Pause),
        1 => Just(Step::Crash),
        1 => (0..200_u64).prop_map(Step::Freeze),
        3 => signal.prop_map(Step::Signal),
    ]
}
