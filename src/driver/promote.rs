//! The promotion of a replica to a primary (07 §5.3), as the driver carries it out.
//!
//! ```text
//!  mode, prewarm ─► file staged ─► WAL replayed ─► safekeepers announced ─► pg_promote ─┐
//!        └──────────────┴───────────────┴──────────────────┘                            │
//!                       │ error: the replica as it was                    the spec is in force
//!                       ▼                                                               ▼
//!               failed, may be tried again         file in place, announcement retracted, reload,
//!                                                  catalog: completed, or failed for good
//! ```
//!
//! A promotion does not change the status (01 §17). Invariants: the new spec is in force from the
//! moment when the server is known to have left recovery, so that the compute ends as a primary
//! does; a failure before that leaves the replica with its old configuration. A `pg_promote()`
//! without a clear answer leaves the promotion [`Promotion::Unclear`], which is resolved before
//! anything else is done to the server ([`Running::resolve_unclear_promotion`]). If it can no
//! longer be resolved, because the server has ended or no time is left, it counts as not promoted:
//! the safekeepers are not synced, since another primary may already exist.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::promotion::Promotion;
use super::reconfigure::Change;
use super::running::{Flow, Running, until_ending};
use super::steps::PromotePhase;
use crate::configure::catalog::CatalogWork;
use crate::duration::millis_since;
use crate::errors::one_line;
use crate::failpoints::{self, edges};
use crate::node::promotion::attempt::{Attempt, PromotionRequest};
use crate::node::promotion::states::{Promoted, PromotionState};
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::staged::StagedConf;
use crate::services::lfc::states::PrewarmState;
use crate::spec::ParsedSpec;
use crate::spec::wire::ComputeMode;
use crate::sql::APPLY_CONFIG;
use crate::sql::standby::Standby;
use crate::telemetry::traces;

/// Failpoint just before `pg_promote()`.
const FAILPOINT: &str = "compute-promotion";
/// Failpoint after `pg_promote()`, which then gives no clear answer.
const FAILPOINT_AFTER: &str = "compute-promotion-unclear";

/// A server that has left recovery, and the steps that remain.
struct Primary {
    session: Standby,
    staged: StagedConf,
    lsn_wait_time_ms: u32,
    pg_promote_time_ms: u32,
}

impl Running<'_> {
    /// Works on the attempt until it ends, Postgres ends, or the compute ends.
    pub(super) async fn promote(&mut self, attempt: Attempt) -> Flow {
        let span = attempt.from.span("promote");
        span.scope(self.promote_inside(attempt)).await
    }

    async fn promote_inside(&mut self, attempt: Attempt) -> Flow {
        let driver = &mut *self.driver;
        let node = Arc::clone(&driver.node);
        let (old, new) = (self.in_force.clone(), attempt.request.spec.clone());
        let operation = new.operation();
        let (tls, postmaster) = (&mut driver.tls, &self.postmaster);
        let catalog = CatalogWork::Apply;
        let change = Change { node: &node, old: &old, new: &new, tls, postmaster, catalog };
        let primary = tokio::select! {
            biased;
            () = driver.stop.requested.cancelled() => return Flow::Stopped,
            status = self.postgres.wait() => return Flow::Exited(status),
            () = until_ending(&node) => None,
            primary = become_primary(&change, &attempt.request, &mut self.promotion) => Some(primary),
        };
        let Primary { mut session, staged, lsn_wait_time_ms, pg_promote_time_ms } = match primary {
            Some(Ok(primary)) => primary,
            other => {
                self.promotion.failed(new);
                if let Some(Err(error)) = other {
                    let error = one_line(error.as_ref());
                    tracing::error!("could not promote the replica: {error}");
                    traces::failed(&error);
                    node.end_promotion(operation, Some(error.clone()));
                    attempt.failed(error);
                }
                return Flow::GoOn;
            }
        };
        let promoted = Instant::now();
        tracing::info!("the replica was promoted");
        self.in_force = new.clone();
        self.fully_applied = false;
        self.promotion = Promotion::Done { overrides: session.has_announced() };
        node.replace_spec(&new);

        let completed = async {
            session.check_writable().await?;
            change.complete(staged, session.retract()).await
        };
        let completed = tokio::select! {
            biased;
            () = driver.stop.requested.cancelled() => return Flow::Stopped,
            status = self.postgres.wait() => return Flow::Exited(status),
            () = until_ending(&node) => return Flow::GoOn,
            completed = completed => completed,
        };
        self.promotion = Promotion::Done { overrides: session.has_announced() };
        self.fully_applied = completed.is_ok();
        let failed = completed.err().map(|error| one_line(error.as_ref()));
        node.end_promotion(operation, failed.clone());
        attempt.end(match failed {
            None => PromotionState::Completed(Promoted {
                lsn_wait_time_ms,
                pg_promote_time_ms,
                reconfigure_time_ms: millis_since(promoted),
            }),
            Some(error) => {
                tracing::error!("the promotion is not complete: {error}");
                traces::failed(&error);
                PromotionState::Failed { error }
            }
        });
        Flow::GoOn
    }

    /// Finds out whether an earlier promotion has succeeded after all, before the server gets
    /// another configuration or is stopped. If so, its spec is put in force.
    pub(super) async fn resolve_unclear_promotion(&mut self) {
        let Promotion::Unclear { spec } = self.promotion.clone() else { return };
        let node = Arc::clone(&self.driver.node);
        let asked = async { standby(&node).await?.has_left_recovery().await };
        let left = tokio::select! {
            biased;
            () = self.driver.stop.requested.cancelled() => return,
            left = asked => left,
        };
        match left {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!(
                    "the replica was promoted after all, after its promotion had failed"
                );
                node.replace_spec(&spec);
                self.in_force = spec;
                self.fully_applied = false;
                self.promotion = Promotion::Done { overrides: true };
            }
            Err(error) => {
                let error = one_line(error.as_ref());
                tracing::warn!("could not see whether the replica was promoted: {error}");
            }
        }
    }

    /// Drops the overrides of a promoted server before it gets another configuration, which they
    /// would override.
    pub(super) async fn drop_overrides(&mut self) -> anyhow::Result<()> {
        if matches!(self.promotion, Promotion::Done { overrides: true }) {
            let node = Arc::clone(&self.driver.node);
            let retracted = async {
                let mut session = standby(&node).await?;
                session.assume_announced();
                session.retract().await
            };
            tokio::select! {
                biased;
                // The caller checks for the signal.
                () = self.driver.stop.requested.cancelled() => return Ok(()),
                retracted = retracted => retracted
                    .context("could not drop the settings of the promotion")?,
            }
            self.promotion = Promotion::Done { overrides: false };
            // The settings that they hid take effect only with the next reload.
            self.fully_applied = false;
        }
        Ok(())
    }

    /// True for a spec that is not a primary's after a promotion: a running primary cannot become a
    /// replica again.
    pub(super) fn is_from_before_promotion(&self, spec: &ParsedSpec) -> bool {
        self.promotion.is_done() && !spec.is_primary()
    }
}

/// A session for the steps of a promotion.
async fn standby(node: &ComputeNode) -> anyhow::Result<Standby> {
    let params = &node.params;
    let config = params.session(APPLY_CONFIG)?;
    let deadlines = params.timeouts.sql;
    Standby::connect(&config, deadlines, params.timeouts.promotion).await
}

/// The steps that make the server writable.
async fn become_primary(
    change: &Change<'_>,
    wish: &PromotionRequest,
    promotion: &mut Promotion,
) -> anyhow::Result<Primary> {
    let (node, old) = (change.node, change.old);
    let mode = old.spec().mode();
    if mode != ComputeMode::Replica {
        bail!("compute mode \"{mode}\" is not replica");
    }
    check_prewarm(&node.lfc.prewarm_state())?;
    tracing::info!("promoting the replica once it has replayed {}", wish.wal_flush_lsn);
    // Before anything is touched: the check finds what Postgres would refuse.
    let staged = async {
        let staged = change.stage().await;
        staged.map_err(|it| it.into_error().context("the spec cannot be put in force"))
    };
    let caught_up = async {
        let session = standby(node).await?;
        let began = Instant::now();
        let position = session.catch_up(wish.wal_flush_lsn).await?;
        Ok((session, position, millis_since(began)))
    };
    let ready = async { tokio::try_join!(staged, caught_up) };
    let (staged, (mut session, position, lsn_wait_time_ms)) =
        during(node, PromotePhase::WaitForWal, ready).await?;

    let began = Instant::now();
    // An earlier attempt may have succeeded after its deadline.
    if position.in_recovery {
        promotion.set_overrides();
        let announced = announce(change, &mut session);
        if let Err(error) = during(node, PromotePhase::SetSafekeepers, announced).await {
            // An earlier `pg_promote()` may be under way: then its overrides stay, as below.
            if !promotion.is_unclear() {
                promotion.taken_back(take_back(change, &mut session).await);
            }
            return Err(error);
        }
        *promotion = Promotion::Unclear { spec: wish.spec.clone() };
        // The announcement stays after a failure: the server may still leave recovery, and must not
        // then take commits that no safekeeper has. A replica ignores it.
        during(node, PromotePhase::PgPromote, promote(node, &session)).await?;
    } else {
        session.assume_announced();
    }
    let pg_promote_time_ms = millis_since(began);
    Ok(Primary { session, staged, lsn_wait_time_ms, pg_promote_time_ms })
}

/// Performs a step. `/status` shows it, and names it if it fails.
fn during<T>(
    node: &ComputeNode,
    step: PromotePhase,
    work: impl Future<Output = anyhow::Result<T>>,
) -> impl Future<Output = anyhow::Result<T>> {
    let work = edges::around(step.point(), work);
    async move {
        node.step(step.name());
        work.await
    }
}

/// Calls `pg_promote()`. If the answer is not clear, asks another session for the outcome.
async fn promote(node: &ComputeNode, session: &Standby) -> anyhow::Result<()> {
    if failpoints::hit(FAILPOINT_AFTER).await.is_some() {
        session.promote_unwatched().await?;
        bail!("{FAILPOINT_AFTER} failpoint");
    }
    let Err(error) = session.promote().await else { return Ok(()) };
    let left = async { standby(node).await?.has_left_recovery().await };
    match left.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(error.context(
            "the server has not left recovery, and may do so yet; ask again, or end the compute",
        )),
        Err(_) => Err(error.context("it is not known whether the server has left recovery")),
    }
}

/// A prewarm must have ended, with any outcome (07 §5.3 step 1).
fn check_prewarm(state: &PrewarmState) -> anyhow::Result<()> {
    match state {
        PrewarmState::NotPrewarmed => bail!("compute NotPrewarmed"),
        PrewarmState::Prewarming => bail!("compute Prewarming"),
        PrewarmState::Failed { error } => {
            tracing::warn!("promoting a replica whose prewarm has failed: {error}");
            Ok(())
        }
        PrewarmState::Completed(_) | PrewarmState::Skipped | PrewarmState::Cancelled => Ok(()),
    }
}

/// Sets the safekeepers that the server writes to from its first moment as a primary.
async fn announce(change: &Change<'_>, session: &mut Standby) -> anyhow::Result<()> {
    let safekeepers = safekeepers(change.new);
    session.announce(&safekeepers).await?;
    change.reload().await.context("reloading postgres config")?;
    if failpoints::hit(FAILPOINT).await.is_some() {
        bail!("{FAILPOINT} failpoint");
    }
    Ok(())
}

/// The value of `neon.safekeepers` in the new file, with the generation (06 W19).
fn safekeepers(new: &AcceptedSpec) -> String {
    let value = new.conf().value_in_force("neon.safekeepers");
    value.map_or_else(|| new.spec().safekeepers.join(","), |value| value.expose().clone())
}

/// Drops the overrides of the attempt. Returns whether that worked.
async fn take_back(change: &Change<'_>, session: &mut Standby) -> bool {
    if !session.has_announced() {
        return true;
    }
    let taken_back = async {
        if session.retract().await.is_err() {
            // The session may have been lost.
            let mut another = standby(change.node).await?;
            another.assume_announced();
            another.retract().await?;
        }
        change.reload().await
    };
    let taken_back = taken_back.await;
    if let Err(error) = &taken_back {
        let error = one_line(error.as_ref());
        tracing::error!("could not drop the settings of the promotion: {error}");
    }
    taken_back.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prewarm_must_have_ended() {
        let refused = |state: PrewarmState| check_prewarm(&state).err().map(|e| e.to_string());
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(refused(PrewarmState::NotPrewarmed), text("compute NotPrewarmed"));
        assert_eq!(refused(PrewarmState::Prewarming), text("compute Prewarming"));
        let failed = PrewarmState::Failed { error: "e".to_owned() };
        for state in [failed, PrewarmState::Skipped, PrewarmState::Cancelled] {
            assert_eq!(refused(state), None);
        }
    }
}
