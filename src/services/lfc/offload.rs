//! Asks Postgres for the state of its cache and stores it (07 §4.5, §4.6).

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::states::{OffloadState, Offloaded};
use super::storage::StateObject;
use crate::duration::millis_since;
use crate::spec::ParsedSpec;

const STATE: &str = "SELECT neon.get_local_cache_state()";

/// Why an offload runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A request: the client judges whether the cache is worth storing.
    Request,
    /// The interval of the spec ended while the cache was settled.
    Interval {
        /// Number of prewarms that had begun by then.
        prewarms: u64,
    },
}

/// Returns the final state; `None`, with nothing stored, if a prewarm began before Postgres
/// returned the state of the cache. Errors have the documented contexts.
pub(super) async fn offload(
    shared: &Shared,
    spec: &ParsedSpec,
    trigger: Trigger,
) -> anyhow::Result<Option<OffloadState>> {
    let object = StateObject::of(spec, None)?;
    let began = Instant::now();
    let session = shared.connect().await?;
    let (never, limits) = (CancellationToken::new(), shared.call(shared.deadlines.statement));
    let rows = session.session().call(STATE, &[], limits, &never).await;
    let rows = rows.context("querying LFC state")?;
    let row = rows.first().context("querying LFC state: no row")?;
    let state: Option<Vec<u8>> = row.try_get(0).context("deserializing LFC state")?;
    drop((rows, session));
    let state_query_time_ms = millis_since(began);
    let Some(state) = state else { return Ok(Some(OffloadState::Skipped)) };

    let began = Instant::now();
    let compress =
        move || zstd::stream::encode_all(state.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL);
    let compressed = tokio::task::spawn_blocking(compress).await;
    let compressed =
        compressed.context("compressing LFC state")?.context("compressing LFC state")?;
    let compress_time_ms = millis_since(began);

    // Even if that prewarm is over: the state may be that of a half-filled cache.
    if let Trigger::Interval { prewarms } = trigger
        && shared.prewarm.look().0 != prewarms
    {
        return Ok(None);
    }
    let began = Instant::now();
    object.put(compressed, &shared.limits, &shared.metrics.tries).await?;
    Ok(Some(OffloadState::Completed(Offloaded {
        state_query_time_ms,
        compress_time_ms,
        state_upload_time_ms: millis_since(began),
    })))
}

/// Offloads at each interval if the cache is settled: a half-filled cache must not replace the
/// state of a full one. An interval that ends during another offload is skipped.
pub(super) async fn offload_periodically(every: Duration, offload: impl Fn()) {
    loop {
        tokio::time::sleep(every).await;
        offload();
    }
}
