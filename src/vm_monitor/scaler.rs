//! The one task that changes things: the threshold, and the size of the file cache (08 §4, §7.3,
//! §7.4). It takes one job at a time, in the order in which they came, so that a connection that is
//! replaced in the middle leaves no half a change.
//!
//! Its state outlives connections: an agent that is restarted finds the threshold, the samples and
//! the session on Postgres as they were (W6).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::board::Board;
use super::cgroup::Reader;
use super::file_cache::{self, CacheError, FileCache};
use super::policy::{self, MIB, Summary, Verdict, may_shrink, threshold, usable};
use super::protocol::Answer;
use super::sampler::sample;
use crate::background::Background;

/// The memory of the machine.
pub(super) const MEMINFO: &str = "/proc/meminfo";

/// The agent announces a new amount of memory, or asks whether it would do. Bytes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    Upscale { memory: u64 },
    Downscale { memory: u64 },
}

/// Work for the scaler. It is skipped if its answer has no receiver any more.
#[derive(Debug)]
pub(super) enum Job {
    /// An agent has connected.
    SetUp(oneshot::Sender<Result<(), String>>),
    /// An agent has sent a message.
    Resize { resize: Resize, id: u64, answer: oneshot::Sender<Answer> },
}

/// What the machine was last known to have, in bytes.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The memory that the size of the cache was computed from.
    target: u64,
    /// `MemTotal` at that time.
    total: u64,
}

/// Samples that are not taken yet; they begin with the first agent.
#[derive(Debug)]
struct Sampling {
    reader: Reader,
    summaries: watch::Sender<Summary>,
}

/// What the scaler is made of.
#[derive(Debug)]
pub(super) struct Parts {
    /// None with `disable_lfc_resizing`.
    pub(super) cache: Option<FileCache>,
    pub(super) reader: Reader,
    pub(super) summaries: watch::Sender<Summary>,
    pub(super) every: Duration,
    /// [`MEMINFO`], or another file in tests.
    pub(super) meminfo: PathBuf,
    pub(super) board: Arc<Board>,
    pub(super) background: Background,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Scaler {
    cache: Option<FileCache>,
    waiting: Option<Sampling>,
    every: Duration,
    latest: watch::Receiver<Summary>,
    meminfo: PathBuf,
    board: Arc<Board>,
    background: Background,
    known: Option<Known>,
}

impl Scaler {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { cache, reader, summaries, every, meminfo, board, background } = parts;
        let latest = summaries.subscribe();
        let waiting = Some(Sampling { reader, summaries });
        Self { cache, waiting, every, latest, meminfo, board, background, known: None }
    }

    /// Works until all senders of jobs are gone.
    pub(super) async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::SetUp(done) if !done.is_closed() => {
                    let outcome = self.set_up().await.map_err(|error| format!("{error:#}"));
                    self.board.set_up(outcome.as_ref().map(|_| ()));
                    let _ = done.send(outcome);
                }
                Job::Resize { resize, id, answer } if !answer.is_closed() => {
                    let message = match resize {
                        Resize::Upscale { memory } => self.upscale(memory, id).await,
                        Resize::Downscale { memory } => self.downscale(memory, id).await,
                    };
                    let _ = answer.send(message);
                }
                Job::SetUp(_) | Job::Resize { .. } => {}
            }
        }
    }

    /// Prepares for an agent (08 §4.1). The cgroup is looked at before Postgres is touched; one that
    /// cannot be read is said, and the rest works without it.
    async fn set_up(&mut self) -> anyhow::Result<()> {
        let total = total(&self.meminfo)?;
        if let Some(waiting) = &mut self.waiting {
            self.board.cgroup(waiting.reader.read().as_ref().err());
        }
        let first = self.known.is_none();
        let known = self.known.map_or(Known { target: total, total }, |known| Known {
            target: if total < known.total { known.target.min(total) } else { known.target },
            total,
        });
        let threshold = match (self.board.threshold(), self.known) {
            (Some(in_force), Some(known)) => policy::kept(in_force, known.total, total),
            _ => threshold(total),
        };
        let cache = self.resize_cache(known.target, first).await;
        let cache = cache.context("could not set the size of the local file cache")?;
        self.board.set_threshold(threshold);
        self.known = Some(known);
        self.begin_sampling();
        let of = threshold / MIB;
        match cache {
            Some(size) => tracing::info!(
                "the VM monitor is set up: file cache {} MiB, threshold {of} MiB",
                size / MIB
            ),
            None => tracing::info!("the VM monitor is set up: threshold {of} MiB"),
        }
        Ok(())
    }

    fn begin_sampling(&mut self) {
        let Some(Sampling { reader, summaries }) = self.waiting.take() else { return };
        summaries.send_replace(Summary::none(Instant::now()));
        let (every, board) = (self.every, Arc::clone(&self.board));
        self.background.spawn(async move {
            sample(reader, every, summaries, &board).await;
        });
    }

    /// The memory is there already, so the threshold rises even if the cache cannot follow (W10).
    async fn upscale(&mut self, memory: u64, id: u64) -> Answer {
        let usable = usable(memory);
        let wanted = threshold(usable);
        if self.board.threshold().is_none_or(|in_force| in_force < wanted) {
            self.board.set_threshold(wanted);
        }
        self.remember(usable);
        match self.resize_cache(usable, true).await {
            Ok(cache) => {
                self.board.set_threshold(wanted);
                let memory = memory / MIB;
                match cache.map(|size| size / MIB) {
                    Some(size) => tracing::info!(
                        "the machine has {memory} MiB of memory now: file cache {size} MiB, \
                         threshold {} MiB",
                        wanted / MIB
                    ),
                    None => tracing::info!(
                        "the machine has {memory} MiB of memory now: threshold {} MiB",
                        wanted / MIB
                    ),
                }
                Answer::UpscaleConfirmation { id }
            }
            Err(error) => failed("failed to handle upscale", &error, id),
        }
    }

    /// The cache shrinks before the answer, so that the memory is free when it is taken away.
    async fn downscale(&mut self, memory: u64, id: u64) -> Answer {
        const FAILED: &str = "failed to downscale";
        let usable = usable(memory);
        let latest = *self.latest.borrow();
        let (result, answer) = match may_shrink(usable, &latest, Instant::now()) {
            Verdict::Unknown(reason) => ("failed", failed(FAILED, reason, id)),
            Verdict::Refused(status) => {
                tracing::info!("the machine must not shrink to {} MiB: {status}", memory / MIB);
                ("refused", Answer::DownscaleResult { ok: false, status, id })
            }
            Verdict::Granted { threshold } => match self.resize_cache(usable, true).await {
                Err(error) => ("failed", failed(FAILED, &error, id)),
                Ok(cache) => {
                    let before = self.board.threshold().unwrap_or(threshold);
                    self.board.set_threshold(threshold);
                    self.remember(usable);
                    let status = policy::granted(cache, before, threshold, usable);
                    tracing::info!("the machine may shrink to {} MiB: {status}", memory / MIB);
                    ("granted", Answer::DownscaleResult { ok: true, status, id })
                }
            },
        };
        self.board.downscale(result);
        answer
    }

    fn remember(&mut self, target: u64) {
        // A file that cannot be read now could be read before.
        let total = total(&self.meminfo).ok().or(self.known.map(|known| known.total));
        self.known = total.map(|total| Known { target, total });
    }

    /// Sets the size of the cache for so much memory; none if it is not managed.
    async fn resize_cache(&mut self, memory: u64, always: bool) -> Result<Option<u64>, CacheError> {
        let Some(cache) = &mut self.cache else { return Ok(None) };
        let wanted = file_cache::size(memory);
        let outcome = cache.set(wanted, always).await;
        self.board.cache(wanted, outcome.as_ref().map(|it| *it).map_err(ToString::to_string));
        if let Ok(set) = &outcome
            && *set != wanted
        {
            tracing::warn!(
                "the local file cache has {} MiB instead of {} MiB, because of \
                 neon.max_file_cache_size",
                set / MIB,
                wanted / MIB
            );
        }
        outcome.map(Some)
    }
}

fn failed(what: &str, why: impl std::fmt::Display, id: u64) -> Answer {
    let error = format!("{what}: {why}");
    tracing::warn!("{error}");
    Answer::InternalError { error, id }
}

/// `MemTotal` in bytes.
fn total(meminfo: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(meminfo)
        .with_context(|| format!("could not read {}", meminfo.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let total = kib.and_then(|kib| kib.checked_mul(1024));
    total.with_context(|| format!("{} has no line MemTotal in kB", meminfo.display()))
}
