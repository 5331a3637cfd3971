//! From a replica to a primary (07 §5.3), one more thing that the driver does to a running Postgres.
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
//! The status stays as it is all the time (01 §17). Invariants: the new spec is in force from the
//! moment when the server is known to have left recovery, so that the end of a primary is that of a
//! primary; before that a failure leaves the replica with its old configuration. A `pg_promote()`
//! that gave no clear answer leaves the promotion [`Promotion::Unclear`], which is resolved before
//! anything else is done to the server ([`Running::resolve_unclear_promotion`]). Where it cannot be
//! resolved any more, because the server has ended or there is no time, it counts as none: the
//! safekeepers are not synced, as another primary may be there already.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::promotion::{PromotePhase, Promotion};
use super::reconfigure::Change;
use super::running::{Flow, Running, until_ending};
use crate::duration::millis_since;
use crate::errors::one_line;
use crate::failpoints;
use crate::node::promotion::attempt::{Attempt, PromotionRequest};
use crate::node::promotion::states::{Promoted, PromotionState};
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::staged::StagedConf;
use crate::services::lfc::states::PrewarmState;
use crate::spec::ParsedSpec;
use crate::spec::wire::ComputeMode;
use crate::sql::APPLY_CONFIG;
use crate::sql::standby::Standby;

/// The name in [`failpoints`].
const FAILPOINT: &str = "compute-promotion";
/// Of the call that gives no clear answer.
const FAILPOINT_AFTER: &str = "compute-promotion-unclear";

/// A server that has left recovery, and what is still to be done to it.
struct Primary {
    session: Standby,
    staged: StagedConf,
    lsn_wait_time_ms: u32,
    pg_promote_time_ms: u32,
}

impl Running<'_> {
    /// Serves the attempt to its end, unless Postgres or the compute comes to its end before.
    pub(super) async fn promote(&mut self, attempt: Attempt) -> Flow {
        let driver = &mut *self.driver;
        let node = Arc::clone(&driver.node);
        let (old, new) = (self.in_force.clone(), attempt.request.spec.clone());
        let operation = new.operation();
        let (tls, postmaster) = (&mut driver.tls, &self.postmaster);
        let change = Change { node: &node, old: &old, new: &new, tls, postmaster };
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
                PromotionState::Failed { error }
            }
        });
        Flow::GoOn
    }

    /// Finds out whether an earlier promotion has succeeded after all, before the server is given
    /// another configuration, or is stopped. If it has, its spec is the one in force.
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

    /// Drops the overrides of a promoted server, before it is given another configuration, which
    /// they would outrank.
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
                // The caller notices.
                () = self.driver.stop.requested.cancelled() => return Ok(()),
                retracted = retracted => retracted
                    .context("could not take back what was set for the promotion")?,
            }
            self.promotion = Promotion::Done { overrides: false };
            // What they hid is in force with the next reload only.
            self.fully_applied = false;
        }
        Ok(())
    }

    /// Nothing makes a running primary a replica again.
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

/// The steps up to a server that can be written to.
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
    node.step(PromotePhase::WaitForWal.name());
    tracing::info!("promoting the replica once it has replayed {}", wish.wal_flush_lsn);
    // While nothing is touched: what Postgres would refuse is found here.
    let staged = async { change.stage().await.context("the spec cannot be put in force") };
    let caught_up = async {
        let session = standby(node).await?;
        let began = Instant::now();
        let position = session.catch_up(wish.wal_flush_lsn).await?;
        Ok((session, position, millis_since(began)))
    };
    let (staged, (mut session, position, lsn_wait_time_ms)) = tokio::try_join!(staged, caught_up)?;

    let began = Instant::now();
    // An earlier attempt may have been successful after its time was over.
    if position.in_recovery {
        node.step(PromotePhase::SetSafekeepers.name());
        promotion.set_overrides();
        if let Err(error) = announce(change, &mut session).await {
            // An earlier `pg_promote()` may be under way: then what is there stays, as below.
            if !promotion.is_unclear() {
                promotion.taken_back(take_back(change, &mut session).await);
            }
            return Err(error);
        }
        node.step(PromotePhase::PgPromote.name());
        *promotion = Promotion::Unclear { spec: wish.spec.clone() };
        // The announcement stays after a failure: the server may still leave recovery, and must
        // not take commits then that no safekeeper has. To a replica it means nothing.
        promote(node, &session).await?;
    } else {
        session.assume_announced();
    }
    let pg_promote_time_ms = millis_since(began);
    Ok(Primary { session, staged, lsn_wait_time_ms, pg_promote_time_ms })
}

/// Calls `pg_promote()`. Without a clear answer another session is asked what has become of it.
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

/// One attempt to prewarm must have ended, however (07 §5.3 step 1).
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

/// Makes the server write to its safekeepers from its first moment as a primary.
async fn announce(change: &Change<'_>, session: &mut Standby) -> anyhow::Result<()> {
    let safekeepers = safekeepers(change.new);
    session.announce(&safekeepers).await?;
    change.reload().await.context("reloading postgres config")?;
    if failpoints::hit(FAILPOINT).await.is_some() {
        bail!("{FAILPOINT} failpoint");
    }
    Ok(())
}

/// What the new file will say, with the generation (06 W19).
fn safekeepers(new: &AcceptedSpec) -> String {
    let value = new.conf().value_in_force("neon.safekeepers");
    value.map_or_else(|| new.spec().safekeepers.join(","), |value| value.expose().clone())
}

/// Leaves nothing of the attempt above the replica's own configuration. Whether that worked.
async fn take_back(change: &Change<'_>, session: &mut Standby) -> bool {
    if !session.has_announced() {
        return true;
    }
    let taken_back = async {
        if session.retract().await.is_err() {
            // It may be the session that is gone.
            let mut another = standby(change.node).await?;
            another.assume_announced();
            another.retract().await?;
        }
        change.reload().await
    };
    let taken_back = taken_back.await;
    if let Err(error) = &taken_back {
        let error = one_line(error.as_ref());
        tracing::error!("could not take back what was set for the promotion: {error}");
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
