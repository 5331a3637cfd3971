//! `postgresql.conf` of an accepted spec: checks before it is written, and writing it beside the
//! file in force.

use super::catalog::CatalogWork;
use super::not_applied::NotApplied;
use crate::node::{AcceptedSpec, ComputeNode};
use crate::postgres::conf::ConfFile;
use crate::postgres::files;
use crate::postgres::staged::{StagedConf, needs_no_check};

/// Logs settings that will not do what the sender of the spec may expect.
pub(crate) fn log_remarks(conf: &ConfFile) {
    for remark in conf.remarks() {
        tracing::warn!("{remark}");
    }
}

/// Writes the new file beside the old one. Subscribers that `drop_subscriptions_before_start` stops
/// during the catalog changes run again afterwards; if nothing is dropped they are not stopped
/// (04 W10).
///
/// # Errors
/// Postgres would refuse the file ([`NotApplied::Refused`]), or it cannot be written.
pub(crate) async fn stage(
    node: &ComputeNode,
    old: &AcceptedSpec,
    new: &AcceptedSpec,
    catalog: CatalogWork,
) -> Result<StagedConf, NotApplied> {
    let params = &node.params;
    catalog.check(new.spec()).map_err(|refused| NotApplied::Refused(refused.into()))?;
    log_remarks(new.conf());
    let mut conf = (**new.conf()).clone();
    if !catalog.is_due(new.spec()) && subscribers_enabled(node)? {
        conf.keep_subscribers();
    }
    let staged = StagedConf::new(&params.pgdata, &conf);
    let staged = staged.map_err(|error| NotApplied::NotBegun(error.into()))?;
    if !needs_no_check(&conf, old.conf()) {
        let (install, limit) = (&params.install, params.timeouts.postgres.helper);
        let checked = staged.check(install, &node.children, limit).await;
        checked.map_err(|refused| NotApplied::Refused(refused.into()))?;
    }
    Ok(staged)
}

fn subscribers_enabled(node: &ComputeNode) -> Result<bool, NotApplied> {
    let enabled = files::subscribers_enabled(&node.params.pgdata);
    enabled.map_err(|error| NotApplied::NotBegun(error.into()))
}
