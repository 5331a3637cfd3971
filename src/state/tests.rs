use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// States of a fresh process: without and with a spec at hand.
const INITIAL: [ComputeStatus; 2] = [ComputeStatus::Empty, ComputeStatus::Init];

fn reachable(from: &[ComputeStatus], allowed: impl Fn(Event) -> bool) -> HashSet<ComputeStatus> {
    let mut seen: HashSet<_> = from.iter().copied().collect();
    let mut todo = from.to_vec();
    while let Some(status) = todo.pop() {
        for event in Event::ALL.into_iter().filter(|event| allowed(*event)) {
            if let Some(next) = transition(status, event)
                && seen.insert(next)
            {
                todo.push(next);
            }
        }
    }
    seen
}

#[test]
fn every_state_is_reachable_and_has_a_way_out() {
    assert_eq!(reachable(&INITIAL, |_| true).len(), ComputeStatus::ALL.len());
    for status in ComputeStatus::ALL {
        assert!(reachable(&[status], |_| true).contains(&ComputeStatus::Terminated), "{status}");
    }
}

/// A way out must not need a signal or the death of Postgres: work in progress ends with
/// success or failure, and from there requests suffice.
#[test]
fn every_state_has_a_way_out_without_force() {
    let peaceful = |event| !matches!(event, Event::Signal | Event::PostgresExited);
    for status in ComputeStatus::ALL {
        assert!(reachable(&[status], peaceful).contains(&ComputeStatus::Terminated), "{status}");
    }
}

#[test]
fn a_signal_is_understood_everywhere_and_ending_is_final() {
    for status in ComputeStatus::ALL {
        let after = transition(status, Event::Signal).unwrap();
        assert!(after.is_ending(), "{status} -> {after}");
        if status.is_ending() {
            for event in Event::ALL {
                if let Some(next) = transition(status, event) {
                    assert!(next.is_ending(), "{status} -{event:?}-> {next}");
                }
            }
        }
    }
    assert_eq!(reachable(&[ComputeStatus::Terminated], |_| true).len(), 1);
}

/// Table 01 §14.3, with the two rows that document 03 §12 wants better.
#[test]
fn requests_by_state() {
    use ComputeStatus as S;
    let accepts = |event| {
        let legal = ComputeStatus::ALL.into_iter().filter(move |s| transition(*s, event).is_some());
        legal.collect::<Vec<_>>()
    };
    assert_eq!(accepts(Event::Configure), [S::Empty, S::Running]);
    for mode in [TerminateMode::Fast, TerminateMode::Immediate] {
        assert_eq!(
            accepts(Event::Terminate(mode)),
            [
                S::Empty,
                S::Running,
                S::Failed,
                S::RefreshConfigurationPending,
                S::RefreshConfiguration
            ]
        );
    }
    assert_eq!(
        accepts(Event::Refresh),
        [S::Init, S::Running, S::Failed, S::RefreshConfigurationPending]
    );
}

/// What is not in this table is refused.
#[test]
fn the_whole_table() {
    use ComputeStatus as S;
    use Event as E;
    let immediate = E::Terminate(TerminateMode::Immediate);
    let fast = E::Terminate(TerminateMode::Fast);
    let rows = [
        (S::Empty, E::Configure, S::ConfigurationPending),
        (S::Empty, E::BeginStart, S::Init),
        (S::Empty, fast, S::TerminationPendingFast),
        (S::Empty, immediate, S::TerminationPendingImmediate),
        (S::Empty, E::Signal, S::TerminationPendingImmediate),
        (S::ConfigurationPending, E::CertificateChanged, S::ConfigurationPending),
        (S::ConfigurationPending, E::BeginStart, S::Init),
        (S::ConfigurationPending, E::BeginConfiguration, S::Configuration),
        (S::ConfigurationPending, E::PostgresExited, S::TerminationPendingImmediate),
        (S::ConfigurationPending, E::Signal, S::TerminationPendingImmediate),
        (S::Init, E::Refresh, S::Init),
        (S::Init, E::Succeeded, S::Running),
        (S::Init, E::Failed, S::Failed),
        (S::Init, E::Signal, S::TerminationPendingImmediate),
        (S::Running, E::Configure, S::ConfigurationPending),
        (S::Running, E::CertificateChanged, S::ConfigurationPending),
        (S::Running, E::Refresh, S::RefreshConfigurationPending),
        (S::Running, fast, S::TerminationPendingFast),
        (S::Running, immediate, S::TerminationPendingImmediate),
        (S::Running, E::PostgresExited, S::TerminationPendingImmediate),
        (S::Running, E::Signal, S::TerminationPendingImmediate),
        (S::Configuration, E::Succeeded, S::Running),
        (S::Configuration, E::Failed, S::Failed),
        (S::Configuration, E::Refused, S::Running),
        (S::Configuration, E::PostgresExited, S::TerminationPendingImmediate),
        (S::Configuration, E::Signal, S::TerminationPendingImmediate),
        (S::Failed, E::Refresh, S::RefreshConfigurationPending),
        (S::Failed, fast, S::TerminationPendingFast),
        (S::Failed, immediate, S::TerminationPendingImmediate),
        (S::Failed, E::PostgresExited, S::TerminationPendingImmediate),
        (S::Failed, E::Signal, S::TerminationPendingImmediate),
        (S::TerminationPendingFast, E::PostgresExited, S::TerminationPendingFast),
        (S::TerminationPendingFast, E::Signal, S::TerminationPendingFast),
        (S::TerminationPendingFast, E::Ended, S::Terminated),
        (S::TerminationPendingImmediate, E::PostgresExited, S::TerminationPendingImmediate),
        (S::TerminationPendingImmediate, E::Signal, S::TerminationPendingImmediate),
        (S::TerminationPendingImmediate, E::Ended, S::Terminated),
        (S::Terminated, E::Signal, S::Terminated),
        (S::RefreshConfigurationPending, E::Refresh, S::RefreshConfigurationPending),
        (S::RefreshConfigurationPending, E::BeginRefresh, S::RefreshConfiguration),
        (S::RefreshConfigurationPending, fast, S::TerminationPendingFast),
        (S::RefreshConfigurationPending, immediate, S::TerminationPendingImmediate),
        (S::RefreshConfigurationPending, E::PostgresExited, S::TerminationPendingImmediate),
        (S::RefreshConfigurationPending, E::Signal, S::TerminationPendingImmediate),
        (S::RefreshConfiguration, E::Succeeded, S::Running),
        (S::RefreshConfiguration, E::Failed, S::RefreshConfigurationPending),
        (S::RefreshConfiguration, fast, S::TerminationPendingFast),
        (S::RefreshConfiguration, immediate, S::TerminationPendingImmediate),
        (S::RefreshConfiguration, E::PostgresExited, S::TerminationPendingImmediate),
        (S::RefreshConfiguration, E::Signal, S::TerminationPendingImmediate),
    ];
    let mut legal = Vec::new();
    for from in ComputeStatus::ALL {
        for event in Event::ALL {
            legal.extend(transition(from, event).map(|to| (from, event, to)));
        }
    }
    assert_eq!(legal.len(), rows.len());
    for row in rows {
        assert!(legal.contains(&row), "{row:?}");
    }
}

#[test]
fn at_rest_are_the_states_in_which_postgres_runs_and_nothing_is_done() {
    let at_rest = ComputeStatus::ALL.into_iter().filter(|status| status.is_at_rest());
    let expected =
        [ComputeStatus::Running, ComputeStatus::Failed, ComputeStatus::RefreshConfigurationPending];
    assert_eq!(at_rest.collect::<Vec<_>>(), expected);
}

#[test]
fn both_forms_of_every_status() {
    for status in ComputeStatus::ALL {
        let json = serde_json::to_value(status).unwrap();
        let text = json.as_str().unwrap();
        assert_eq!(text, status.name());
        assert_eq!(text.replace('_', "-"), status.to_string());
        assert_eq!(serde_json::from_value::<ComputeStatus>(json.clone()).unwrap(), status);
    }
    // A storage controller looks for exactly this text (01 §14.1).
    assert_eq!(
        ComputeStatus::RefreshConfigurationPending.to_string(),
        "refresh-configuration-pending"
    );
}

proptest! {
    /// For any sequence of events: `running` is only reached through work that succeeded or
    /// changed nothing, and after the end nothing moves.
    #[test]
    fn any_sequence_of_events(
        with_spec: bool,
        events in proptest::collection::vec(proptest::sample::select(Event::ALL.to_vec()), 0..60)
    ) {
        let mut status = if with_spec { ComputeStatus::Init } else { ComputeStatus::Empty };
        let mut ended = false;
        for event in events {
            if let Some(next) = transition(status, event) {
                if next == ComputeStatus::Running {
                    prop_assert!(matches!(event, Event::Succeeded | Event::Refused));
                }
                prop_assert!(!ended || next == ComputeStatus::Terminated);
                status = next;
                ended |= status == ComputeStatus::Terminated;
            }
        }
    }
}
