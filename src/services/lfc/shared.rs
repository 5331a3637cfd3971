//! Shared by the runs of prewarm and offload: the address of Postgres, limits, and the two slots.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use super::slot::Slot;
use super::states::{OffloadState, PrewarmState};
use crate::background::Background;
use crate::catalog::trust::require_own_schema;
use crate::postgres::install::PgVersion;
use crate::sql::{APPLY_CONFIG, CallLimits, MaintenanceSession, SessionDeadlines, session_config};
use crate::telemetry::metrics::Metrics;

/// Largest state in bytes, compressed or not. Postgres accepts up to 1 GiB. The state of a cache of
/// a terabyte fits; a prewarm may take twice this in memory.
pub(super) const STATE_LIMIT: usize = 64 << 20;

/// How long the steps of a prewarm and an offload may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LfcLimits {
    /// One connection to the endpoint storage.
    pub connect: Duration,
    /// Silence of the endpoint storage.
    pub idle: Duration,
    /// One request as a whole.
    pub transfer: Duration,
    /// Loading the pages: hundreds of GiB from the pageservers.
    pub prewarm: Duration,
    /// Stopping a load early: each worker of Postgres finishes its requests to the pageservers.
    pub stop: Duration,
}

impl Default for LfcLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            transfer: Duration::from_secs(300),
            prewarm: Duration::from_secs(3600),
            stop: Duration::from_secs(30),
        }
    }
}

/// State of the tasks.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connstr: Url,
    pub(super) version: PgVersion,
    pub(super) deadlines: SessionDeadlines,
    pub(super) limits: LfcLimits,
    pub(super) metrics: Metrics,
    pub(super) background: Background,
    pub(super) prewarm: Arc<Slot<PrewarmState>>,
    pub(super) offload: Arc<Slot<OffloadState>>,
}

impl Shared {
    /// The error of a run that the end of the compute cuts short.
    pub(super) fn interrupted(&self, what: &str) -> String {
        if self.background.has_ended() {
            "connecting to postgres: the compute has ended, or is ending".to_owned()
        } else {
            format!("the {what} was interrupted: the compute is ending")
        }
    }

    pub(super) async fn connect(&self) -> anyhow::Result<MaintenanceSession> {
        let config = session_config(self.connstr.as_str(), APPLY_CONFIG, self.version)?;
        let session = MaintenanceSession::connect(&config, self.deadlines).await;
        let session = session.context("connecting to postgres")?;
        let ours = require_own_schema(session.session(), "neon").await;
        ours.context("looking at schema neon")?;
        Ok(session)
    }

    /// Limits of a statement that takes at most `answer`.
    pub(super) const fn call(&self, answer: Duration) -> CallLimits {
        CallLimits { answer, stop: self.limits.stop }
    }
}
