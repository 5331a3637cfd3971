//! The parameters of a base backup request at a start.

use std::path::Path;

use super::target::PageserverTarget;
use crate::spec::{Lsn, TenantId, TimelineId};

/// A base backup: its source, its LSN, and the directory for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BasebackupRequest<'a> {
    /// The pageservers to ask.
    pub target: &'a PageserverTarget,
    /// Tenant that owns the timeline.
    pub tenant_id: TenantId,
    /// Timeline to start from.
    pub timeline_id: TimelineId,
    /// `0/0` for the latest that the pageserver knows.
    pub lsn: Lsn,
    /// Whether the compute is read-only (Replica or Static): no replication slots are sent.
    pub replica: bool,
    /// An existing directory of mode 0700 that holds nothing but `postgresql.conf`.
    pub pgdata: &'a Path,
}

impl BasebackupRequest<'_> {
    /// The command over libpq (06 §3.3). The tenant id is plain even when the tenant has shards.
    pub(super) fn command(&self) -> String {
        let mut text = format!("basebackup {} {}", self.tenant_id, self.timeline_id);
        if self.lsn.is_valid() {
            text.push_str(&format!(" {}", self.lsn));
        }
        text.push_str(" --gzip");
        if self.replica {
            text.push_str(" --replica");
        }
        text
    }
}
