//! Samples of the memory of a cgroup, at a fixed pace (08 §6.2).

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::board::Board;
use super::cgroup::Reader;
use super::history::History;
use super::policy::{Summary, Window};

/// Reads again and again, and publishes the summaries, until the caller drops this. The files are
/// in the memory of the kernel, so reading them here holds up no other task.
pub(super) async fn sample(
    mut reader: Reader,
    every: Duration,
    summaries: watch::Sender<Summary>,
    board: &Board,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut window, mut history) = (Window::default(), History::default());
    loop {
        ticks.tick().await;
        let sample = reader.read();
        board.cgroup(sample.as_ref().err());
        match sample {
            Ok(sample) => {
                let now = Instant::now();
                let summary = window.push(sample, now);
                board.memory(summary.mean);
                summaries.send_replace(summary);
                if let Some(block) = history.push(sample, now) {
                    tracing::debug!("Recent cgroup memory statistics history, in bytes: {block:?}");
                }
            }
            // The samples before a gap say nothing about the time after it.
            Err(_) => window = Window::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn samples_stop_with_the_file_and_go_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let stat = dir.path().join("memory.stat");
        fs::write(&stat, "active_anon 10\n").unwrap();
        let board = Arc::new(Board::new(Metrics::new().unwrap().vm_monitor().unwrap()));
        let (sender, mut summaries) = watch::channel(Summary::none(Instant::now()));
        let reader = Reader::new(dir.path(), ".");
        let task = Arc::clone(&board);
        let _task = AbortOnDropHandle::new(tokio::spawn(async move {
            sample(reader, Duration::from_millis(100), sender, &task).await;
        }));
        let full = summaries.wait_for(|it| it.samples == 5).await.unwrap().mean;
        assert_eq!(full, 10);
        assert_eq!(board.status().cgroup.memory_bytes, Some(10));

        fs::remove_file(&stat).unwrap();
        while board.status().cgroup.error.is_none() {
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(board.status().cgroup.memory_bytes, None);
        summaries.mark_unchanged();
        fs::write(&stat, "active_anon 30\n").unwrap();
        summaries.changed().await.unwrap();
        // Without the samples before the gap.
        assert_eq!((summaries.borrow().mean, summaries.borrow().samples), (30, 1));
        assert_eq!(board.status().cgroup.error, None);
    }
}
