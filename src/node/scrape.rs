//! What `/metrics` shows of the state at the moment of a scrape.

use std::time::{Duration, SystemTime};

use super::ComputeNode;
use super::phase::{PhaseRecord, StartPhase};
use crate::telemetry::start_metrics::PhaseTimes;

impl ComputeNode {
    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// A family cannot be written, which should not happen.
    pub fn scrape(&self) -> Result<String, prometheus::Error> {
        let start = &self.metrics.start;
        start.set_basebackup_bytes(self.basebackup.bytes());
        let (total, shares) = self.startup_shares();
        let (phases, last_active) = {
            let state = self.lock();
            let (began, now) = (state.start_time.into(), state.started.elapsed());
            (times(&state.phases, began, now), state.last_active)
        };
        self.metrics.set_startup(total, shares);
        start.set_phases(phases);
        self.metrics.work.show(self.readiness.ready().is_ok(), last_active, self.log.dropped());
        self.metrics.render()
    }
}

/// The times of every phase of a start that began at `start`, `now` ago.
fn times(records: &[PhaseRecord], start: SystemTime, now: Duration) -> [PhaseTimes; 9] {
    StartPhase::ALL.map(|phase| {
        let of = || records.iter().filter(|record| record.phase == phase);
        let took =
            |record: &PhaseRecord| record.took.unwrap_or_else(|| now.saturating_sub(record.began));
        PhaseTimes {
            phase: phase.name(),
            began: of().map(|record| record.began).min().map(|began| start + began),
            took: of().map(took).sum(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_phase() {
        let ms = Duration::from_millis;
        let record = |phase, began, took: Option<u64>| PhaseRecord {
            phase,
            began: ms(began),
            took: took.map(ms),
        };
        let records = [
            record(StartPhase::SafekeeperCheck, 10, Some(5)),
            record(StartPhase::SafekeeperCheck, 40, Some(2)),
            record(StartPhase::Basebackup, 50, None),
        ];
        let start = SystemTime::UNIX_EPOCH + ms(1000);
        for PhaseTimes { phase, began, took } in times(&records, start, ms(80)) {
            let expected = match phase {
                "safekeeper_check" => (Some(start + ms(10)), ms(7)),
                "basebackup" => (Some(start + ms(50)), ms(30)),
                _ => (None, Duration::ZERO),
            };
            assert_eq!((began, took), expected, "{phase}");
        }
    }
}
