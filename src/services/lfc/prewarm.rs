//! Fetches the state of a cache and has Postgres load its pages (07 §4.4).
//!
//! Cancelling ends every step at once, except that Postgres gets the time to stop its workers,
//! which would disturb the next prewarm (07 W20).

use std::io::Read as _;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use super::shared::{STATE_LIMIT, Shared};
use super::states::{PrewarmState, Prewarmed};
use super::storage::{self, StateObject};
use crate::duration::millis_since;
use crate::failpoints;
use crate::spec::ParsedSpec;
use crate::sql::CallError;

/// Largest window of an archive, as a power of two: the size that every decoder must support by
/// RFC 8878, and four times the window that [`super::offload`] uses.
const WINDOW_LOG: u32 = 23;

/// Name of the failpoint in [`failpoints`].
const FAILPOINT: &str = "compute-prewarm";

const PREWARM: &str = "SELECT neon.prewarm_local_cache($1)";
const INFO: &str = "SELECT * FROM neon.get_prewarm_info()";

/// Returns the final state; errors have the documented contexts.
pub(super) async fn prewarm(
    shared: &Shared,
    spec: &ParsedSpec,
    from_endpoint: Option<&str>,
    cancel: &CancellationToken,
) -> anyhow::Result<PrewarmState> {
    let object = StateObject::of(spec, from_endpoint)?;
    ensure!(failpoints::hit(FAILPOINT).await.is_none(), "{FAILPOINT} failpoint");
    let Some(downloaded) = cancel.run_until_cancelled(download(shared, &object)).await else {
        return Ok(PrewarmState::Cancelled);
    };
    let Some(Downloaded { state, state_download_time_ms, uncompress_time_ms }) = downloaded? else {
        return Ok(PrewarmState::Skipped);
    };

    let began = Instant::now();
    let Some(session) = cancel.run_until_cancelled(shared.connect()).await else {
        return Ok(PrewarmState::Cancelled);
    };
    let (session, limits) = (session?, shared.call(shared.limits.prewarm));
    let loaded = session.session().call(PREWARM, &[(&state, Type::BYTEA)], limits, cancel).await;
    match loaded {
        Err(CallError::Cancelled) => return Ok(PrewarmState::Cancelled),
        loaded => loaded.context("loading LFC state into postgres")?,
    };
    let prewarm_time_ms = millis_since(began);

    let limits = shared.call(shared.deadlines.statement);
    let info = session.session().call(INFO, &[], limits, cancel).await;
    let info = match info {
        Err(CallError::Cancelled) => return Ok(PrewarmState::Cancelled),
        info => info.context("querying prewarm info")?,
    };
    let pages = |column: usize| {
        let pages = info.first().and_then(|row| row.try_get::<_, Option<i32>>(column).ok());
        pages.flatten().unwrap_or_default()
    };
    Ok(PrewarmState::Completed(Prewarmed {
        total: pages(0),
        prewarmed: pages(1),
        skipped: pages(2),
        state_download_time_ms,
        uncompress_time_ms,
        prewarm_time_ms,
    }))
}

struct Downloaded {
    state: Vec<u8>,
    state_download_time_ms: u32,
    uncompress_time_ms: u32,
}

/// Fetches the stored state; `None` if the endpoint has none.
async fn download(shared: &Shared, object: &StateObject) -> anyhow::Result<Option<Downloaded>> {
    let began = Instant::now();
    let Some(response) = object.get(&shared.limits, &shared.metrics.tries).await? else {
        return Ok(None);
    };
    let state_download_time_ms = millis_since(began);
    let began = Instant::now();
    let body = storage::body(response).await?;
    let decoded = tokio::task::spawn_blocking(move || decode(&body)).await;
    let state = decoded.context("decoding LFC state")?.context("decoding LFC state")?;
    let uncompress_time_ms = millis_since(began);
    Ok(Some(Downloaded { state, state_download_time_ms, uncompress_time_ms }))
}

fn decode(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut state = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(WINDOW_LOG)?;
    decoder.take(STATE_LIMIT as u64 + 1).read_to_end(&mut state)?;
    ensure!(state.len() <= STATE_LIMIT, "it has more than {STATE_LIMIT} bytes");
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_states_of_a_sane_size() {
        let good = zstd::stream::encode_all(b"state".as_slice(), 3).unwrap();
        assert_eq!(decode(&good).unwrap(), b"state");
        for bad in [b"".as_slice(), b"garbage", &good[..good.len() - 2]] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
        // A bomb: some KiB become more than the limit.
        let zeros = std::io::repeat(0).take(STATE_LIMIT as u64 + 1);
        let bomb = zstd::stream::encode_all(zeros, 1).unwrap();
        assert!(bomb.len() < STATE_LIMIT / 1000);
        assert!(decode(&bomb).unwrap_err().to_string().contains("more than"));
        // The largest state is accepted; one that needs 128 MiB to decode is not.
        let zeros = vec![0; STATE_LIMIT];
        assert_eq!(decode(&zstd::stream::encode_all(zeros.as_slice(), 1).unwrap()).unwrap(), zeros);
        let mut greedy = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        greedy.window_log(27).unwrap();
        std::io::Write::write_all(&mut greedy, b"state").unwrap();
        assert!(decode(&greedy.finish().unwrap()).is_err());
    }
}
