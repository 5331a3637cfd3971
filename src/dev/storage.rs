//! The stand-in pageserver and safekeepers of one run of `compute_ctl dev`.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::pageserver::{PageserverOptions, StandInPageserver};
use super::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use super::spec::SpecBuilder;
use super::store::Store;
use super::template::Template;
use super::wal::WalArchive;
use crate::cli::DevArgs;
use crate::os::denied::explained;
use crate::spec::pageserver::PageserverProtocol;

/// Servers that serve until they are dropped.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) pageserver: StandInPageserver,
    pub(super) safekeepers: Vec<StandInSafekeeper>,
}

impl Storage {
    /// Serves a base on free ports.
    pub(super) async fn on_free_ports(base: &Template, safekeepers: usize) -> anyhow::Result<Self> {
        Self::start(base, 0, &vec![0; safekeepers]).await
    }

    /// Serves a base on these ports; 0 is a free one.
    pub(super) async fn start(
        base: &Template,
        pageserver_port: u16,
        safekeeper_ports: &[u16],
    ) -> anyhow::Result<Self> {
        let archive = base.archive.clone();
        let options = PageserverOptions { archive, port: pageserver_port, password: None };
        let pageserver = StandInPageserver::start(options).await.with_context(|| {
            format!(
                "the pageserver cannot use port {pageserver_port}; give another one with \
                 --pageserver-port, or 0 for any"
            )
        })?;
        let mut safekeepers = Vec::new();
        for port in safekeeper_ports {
            let behaviour = SafekeeperBehaviour::at(base.checkpoint_lsn);
            safekeepers.push(StandInSafekeeper::start(*port, behaviour).await.with_context(
                || {
                    format!(
                        "a safekeeper cannot use port {port}; give another one with \
                         --safekeeper-port, or 0 for any"
                    )
                },
            )?);
        }
        Ok(Self { pageserver, safekeepers })
    }

    /// Serves what computes archive, too.
    pub(super) fn follow(&self, wal: &Arc<WalArchive>) {
        self.pageserver.behave(|behaviour| behaviour.wal = Some(Arc::clone(wal)));
        for safekeeper in &self.safekeepers {
            safekeeper.behave(|behaviour| behaviour.wal = Some(Arc::clone(wal)));
        }
    }

    pub(super) fn safekeeper_addresses(&self) -> Vec<String> {
        self.safekeepers.iter().map(StandInSafekeeper::address).collect()
    }

    /// The document of a compute on this storage, whose Postgres uses this port.
    pub(super) fn spec(&self, args: &DevArgs, store: &Store, port: u16) -> SpecBuilder {
        let connstring = self.pageserver.connstring();
        let addresses = self.safekeeper_addresses();
        let mut spec = SpecBuilder::new(connstring, addresses, port, &store.path(""));
        // The path of a socket in this directory may exceed the limit for socket addresses.
        spec.set("unix_socket_directories", "").durable(store.is_kept());
        if args.pageserver_protocol == PageserverProtocol::Grpc {
            spec.pageserver_over_grpc(&self.pageserver);
        }
        spec
    }
}

/// Writes the document of a compute.
pub(super) fn write_config(spec: &SpecBuilder, file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_vec_pretty(&spec.config())?)
        .map_err(|error| explained(error, file))
        .with_context(|| format!("could not write {}", file.display()))
}

/// Ports below those that the system assigns, which begin at 32768 unless that was changed.
const QUIET_PORTS: Range<u16> = 16_384..32_768;
/// More than enough on a machine that has such a port.
const TRIES: usize = 100;

/// Fails early if the port is in use; replaces 0 by a free port.
pub(super) fn free_port(port: u16) -> anyhow::Result<u16> {
    if port == 0 {
        // Postgres opens the port later. Until then any outgoing connection could get one that the
        // system assigns.
        let quiet = || fastrand::u16(QUIET_PORTS);
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        if let Some(port) = std::iter::repeat_with(quiet).take(TRIES).find(free) {
            return Ok(port);
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("Postgres cannot use port {port}; give another one with --port, or 0 for any")
    })?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_not_one_that_the_system_assigns() {
        for _ in 0..20 {
            let port = free_port(0).unwrap();
            assert!(QUIET_PORTS.contains(&port), "{port}");
            let held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            let error = format!("{:#}", free_port(held.local_addr().unwrap().port()).unwrap_err());
            assert!(error.contains(&format!("cannot use port {port}")), "{error}");
        }
    }
}
