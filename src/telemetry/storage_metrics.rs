//! Tries to reach the peers of a compute.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use reqwest::StatusCode;

/// A kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Asked for the LSN of a start.
    Safekeeper,
    /// Asked for a basebackup or a lease.
    Pageserver,
    /// Asked for the configuration.
    ControlPlane,
    /// Asked for an extension.
    ExtensionGateway,
    /// Asked for the state of a local file cache, or given one.
    EndpointStorage,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryOutcome {
    /// The answer could be used.
    Succeeded,
    /// The peer said no, and would say so again.
    Refused,
    /// Anything else: no connection, no answer in time, an answer that could not be used.
    Failed,
}

const PEERS: [(Peer, &str); 5] = [
    (Peer::Safekeeper, "safekeeper"),
    (Peer::Pageserver, "pageserver"),
    (Peer::ControlPlane, "control_plane"),
    (Peer::ExtensionGateway, "extension_gateway"),
    (Peer::EndpointStorage, "endpoint_storage"),
];

const OUTCOMES: [(TryOutcome, &str); 3] = [
    (TryOutcome::Succeeded, "succeeded"),
    (TryOutcome::Refused, "refused"),
    (TryOutcome::Failed, "failed"),
];

/// The counters.
#[derive(Debug, Clone)]
pub struct StorageTries {
    all: Vec<(Peer, TryOutcome, IntCounter)>,
}

impl StorageTries {
    /// Registers the family, with every series at 0. Fails only if another family has the name.
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = IntCounterVec::new(
            Opts::new(
                "compute_ctl_storage_tries_total",
                "Tries to ask storage, the control plane or another peer, by kind and outcome",
            ),
            &["peer", "outcome"],
        )?;
        registry.register(Box::new(family.clone()))?;
        let series = PEERS.into_iter().flat_map(|(peer, peer_name)| {
            let family = &family;
            OUTCOMES.into_iter().map(move |(outcome, name)| {
                (peer, outcome, family.with_label_values(&[peer_name, name]))
            })
        });
        Ok(Self { all: series.collect() })
    }

    /// Counts a try.
    pub fn count(&self, peer: Peer, outcome: TryOutcome) {
        for (_, _, counter) in self.all.iter().filter(|(p, o, _)| (*p, *o) == (peer, outcome)) {
            counter.inc();
        }
    }

    /// Counts an HTTP request; `None` as status means no answer.
    pub fn count_http(&self, peer: Peer, status: Option<StatusCode>) {
        self.count(
            peer,
            match status {
                Some(status) if status.is_success() => TryOutcome::Succeeded,
                Some(status) if !status.is_server_error() => TryOutcome::Refused,
                _ => TryOutcome::Failed,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_counts_once_by_its_outcome() {
        let registry = Registry::new();
        let tries = StorageTries::register(&registry).unwrap();
        let value = |peer, outcome| {
            let found = tries.all.iter().find(|(p, o, _)| (*p, *o) == (peer, outcome));
            found.unwrap().2.get()
        };
        for (code, outcome) in [
            (Some(200), TryOutcome::Succeeded),
            (Some(204), TryOutcome::Succeeded),
            // No redirect is followed, so it is a no.
            (Some(302), TryOutcome::Refused),
            (Some(401), TryOutcome::Refused),
            (Some(404), TryOutcome::Refused),
            (Some(500), TryOutcome::Failed),
            (Some(503), TryOutcome::Failed),
            (None, TryOutcome::Failed),
        ] {
            let before = value(Peer::EndpointStorage, outcome);
            let status = code.map(|code| StatusCode::from_u16(code).unwrap());
            tries.count_http(Peer::EndpointStorage, status);
            assert_eq!(value(Peer::EndpointStorage, outcome), before + 1, "{code:?}");
        }
        tries.count(Peer::Pageserver, TryOutcome::Refused);
        assert_eq!(value(Peer::Pageserver, TryOutcome::Refused), 1);
        let sum: u64 = tries.all.iter().map(|(_, _, counter)| counter.get()).sum();
        assert_eq!(sum, 9, "nothing else was counted");
        // Every series is there from the start on.
        assert_eq!(registry.gather()[0].get_metric().len(), PEERS.len() * OUTCOMES.len());
    }
}
