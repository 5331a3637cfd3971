//! Requests to fetch the configuration again (01 §13.4, 03 §6.4).
//!
//! Any number of them cause one fetch. After a refresh that found nothing new the next fetch rests
//! for a while: Postgres asks at every failed request to a pageserver, and all computes of a
//! pageserver would otherwise ask the control plane as fast as it answers. Invariant: the status
//! stays `running` in that time, so neither `/configure` nor `/terminate` waits for it, and what was
//! asked for in the meantime is done once, afterwards.

use tokio::time::{sleep_until, timeout};

use super::{ComputeNode, WrongStatus};
use crate::state::{ComputeStatus, Event};
use crate::telemetry::traces::{self, Parent};

impl ComputeNode {
    /// Asks for the configuration to be fetched again; does not wait. Also what SIGHUP means.
    ///
    /// # Errors
    /// Not possible in the present status.
    pub fn refresh(&self) -> Result<(), WrongStatus> {
        let mut state = self.lock();
        let rests = state.status == ComputeStatus::Running && state.refresh.rests();
        if !rests
            && self.apply_locked(&mut state, Event::Refresh)?
                != ComputeStatus::RefreshConfigurationPending
        {
            // A compute that starts has just fetched it.
            return Ok(());
        }
        state.refresh.wanted = true;
        state.refresh.from = Some(traces::here());
        drop(state);
        self.refresh_asked.notify_one();
        Ok(())
    }

    /// [`Self::refresh`] for a caller that counts a refusal as a failure: while another refresh is
    /// under way, waits a moment for its end. If that one has put another spec in force, it has
    /// served this request too.
    ///
    /// # Errors
    /// Not possible in the present status.
    pub async fn refresh_or_join(&self) -> Result<(), WrongStatus> {
        let under_way = WrongStatus(ComputeStatus::RefreshConfiguration);
        let first = self.refresh();
        if first != Err(under_way) {
            return first;
        }
        let mut status = self.watch_status();
        let ended = status.wait_for(|status| *status != ComputeStatus::RefreshConfiguration);
        // The node keeps the sender, so the only possible error is the timeout.
        if timeout(self.params.timeouts.refresh.joined, ended).await.is_err() {
            return first;
        }
        {
            let state = self.lock();
            if state.status == ComputeStatus::Running && !state.refresh.rests() {
                return Ok(());
            }
        }
        self.refresh()
    }

    /// Waits for a refresh request, and for the end of the rest; only the driver calls this.
    pub async fn refresh_asked(&self) {
        let until = self.lock().refresh.rests_until;
        if let Some(until) = until {
            sleep_until(until).await;
        }
        self.refresh_asked.notified().await;
    }

    /// Place of the request that waits in its trace, once.
    pub(crate) fn refresh_asked_from(&self) -> Option<Parent> {
        self.lock().refresh.from.take()
    }

    /// Begins with the work that was asked for.
    ///
    /// # Errors
    /// Two requests were served as one, or the end has come.
    pub fn begin_refresh(&self) -> Result<ComputeStatus, WrongStatus> {
        let mut state = self.lock();
        let wanted = std::mem::take(&mut state.refresh.wanted);
        state.refresh.rests_until = None;
        if wanted && state.status == ComputeStatus::Running {
            self.apply_locked(&mut state, Event::Refresh)?;
        }
        self.apply_locked(&mut state, Event::BeginRefresh)
    }

    /// Holds the next fetch back: the one that has just ended has found nothing new.
    pub fn rest_from_refreshes(&self) {
        self.lock().refresh.rest(self.params.timeouts.refresh.rest);
    }
}

#[cfg(test)]
mod tests;
