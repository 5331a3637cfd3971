//! Output of `compute_ctl dev` while the compute starts: a line per phase, and on a terminal a bar
//! while the basebackup is unpacked.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::node::ComputeNode;
use crate::node::phase::StartPhase;
use crate::state::ComputeStatus;

/// Interval between updates of the bar.
const TICK: Duration = Duration::from_millis(50);

/// Prints a line for the user. Errors are ignored: the reader may have closed the pipe, as in
/// `compute_ctl dev | head`, and the compute continues.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Shows phases until the compute runs or its start fails. The length of the bar is
/// `archive_bytes`.
pub(super) async fn show(node: &Arc<ComputeNode>, archive_bytes: u64) -> ComputeStatus {
    let mut status = node.watch_status();
    let mut phases = node.watch_phases();
    let mut shown = HashSet::new();
    // Hides itself if the output is not a terminal.
    let bar = ProgressBar::new(archive_bytes);
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    loop {
        let now = *status.borrow_and_update();
        phases.mark_unchanged();
        let mut fetching = false;
        for (n, record) in node.phases().into_iter().enumerate() {
            match record.took {
                Some(took) if shown.insert(n) => {
                    let millis = took.as_secs_f64() * 1e3;
                    bar.suspend(|| {
                        say(format_args!("  {:<18} {millis:8.1} ms", record.phase.to_string()))
                    });
                }
                Some(_) => {}
                None => fetching |= record.phase == StartPhase::Basebackup,
            }
        }
        if fetching {
            bar.set_position(node.basebackup.bytes());
        }
        if now != ComputeStatus::Init {
            bar.finish_and_clear();
            return now;
        }
        tokio::select! {
            _ = status.changed() => {}
            _ = phases.changed() => {}
            () = tokio::time::sleep(TICK), if fetching && !bar.is_hidden() => {}
        }
    }
}
