//! Attributes the time of a start to phases, so that the parts add up to the whole.
//!
//! Phases overlap, so their durations do not add up. Here every instant of the start belongs to
//! exactly one phase: the one in progress that ends last, because the next phase had to wait for it
//! (it is on the critical path). An instant without any phase belongs to [`OTHER`]. So the parts
//! are disjoint, and by construction their sum is the wall time.
//!
//! While the start is in progress, the phase that will end last is not known; figures may then move
//! from one phase to another, but their sum does not change.

use std::time::Duration;

use super::phase::{PhaseRecord, StartPhase};

/// Time in which no phase was in progress.
pub(crate) const OTHER: &str = "other";

/// Every phase and [`OTHER`] with its share of the first `total`; zero for phases that never began.
/// Parts of phases after `total` do not count.
pub(crate) fn attribute(records: &[PhaseRecord], total: Duration) -> Vec<(&'static str, Duration)> {
    let spans: Vec<Span> = records.iter().map(|record| Span::of(record, total)).collect();
    let mut shares: Vec<_> = StartPhase::ALL.map(|phase| (phase.name(), Duration::ZERO)).into();
    shares.push((OTHER, Duration::ZERO));

    // Between two of these moments nothing begins or ends.
    let mut moments: Vec<Duration> =
        spans.iter().flat_map(|span| [span.began, span.ended]).chain([total]).collect();
    moments.sort_unstable();
    let mut from = Duration::ZERO;
    for to in moments {
        let name = spans
            .iter()
            .filter(|span| span.began <= from && to <= span.ended)
            .max_by_key(|span| span.ended)
            .map_or(OTHER, |span| span.phase.name());
        if let Some((_, share)) = shares.iter_mut().find(|(known, _)| *known == name) {
            *share += to.saturating_sub(from);
        }
        from = to;
    }
    shares
}

/// A phase within the time that counts.
struct Span {
    phase: StartPhase,
    began: Duration,
    ended: Duration,
}

impl Span {
    fn of(record: &PhaseRecord, total: Duration) -> Self {
        let ended = record.took.map_or(total, |took| record.began.saturating_add(took));
        Self { phase: record.phase, began: record.began.min(total), ended: ended.min(total) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn record(phase: StartPhase, began: u64, took: Option<u64>) -> PhaseRecord {
        PhaseRecord { phase, began: ms(began), took: took.map(ms) }
    }

    fn shares(records: &[PhaseRecord], total: u64) -> Vec<(&'static str, u128)> {
        let all = attribute(records, ms(total)).into_iter();
        all.map(|(name, share)| (name, share.as_millis())).filter(|(_, share)| *share > 0).collect()
    }

    #[test]
    fn nothing_yet() {
        assert_eq!(shares(&[], 0), []);
        assert_eq!(shares(&[], 7), [(OTHER, 7)]);
        assert_eq!(
            attribute(&[], ms(7)).len(),
            StartPhase::ALL.len() + 1,
            "every series, from the start"
        );
    }

    #[test]
    fn of_two_at_once_the_longer_one_counts() {
        let records = [
            record(StartPhase::PrepareDirectory, 10, Some(20)),
            // Over before the directory is prepared: it cost nothing.
            record(StartPhase::SafekeeperCheck, 12, Some(5)),
            record(StartPhase::Basebackup, 31, Some(60)),
            record(StartPhase::StartPostgres, 91, Some(9)),
        ];
        let expected = [
            ("prepare_directory", 20),
            ("basebackup", 60),
            ("start_postgres", 9),
            // Before the first phase, and between two.
            (OTHER, 11),
        ];
        assert_eq!(shares(&records, 100), expected);
    }

    #[test]
    fn in_progress_and_beyond_the_end() {
        let records = [
            record(StartPhase::Basebackup, 0, None),
            record(StartPhase::ApplyCatalog, 500, Some(10)),
        ];
        assert_eq!(shares(&records, 40), [("basebackup", 40)]);
    }

    proptest! {
        /// Holds for any overlap and any repetition.
        #[test]
        fn the_sum_is_the_wall_time(
            spans in proptest::collection::vec(
                (0..StartPhase::ALL.len(), 0_u64..200, proptest::option::of(0_u64..200)), 0..12
            ),
            total in 0_u64..300,
        ) {
            let records: Vec<_> = spans
                .into_iter()
                .map(|(phase, began, took)| record(StartPhase::ALL[phase], began, took))
                .collect();
            let sum: Duration = attribute(&records, ms(total)).iter().map(|(_, share)| *share).sum();
            prop_assert_eq!(sum, ms(total));
        }
    }
}
