//! The stand-in pageserver and safekeepers of one run of `compute_ctl dev`.

use std::net::{Ipv4Addr, TcpListener};
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

/// Fails early if the port is in use; replaces 0 by a free port.
pub(super) fn free_port(port: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("Postgres cannot use port {port}; give another one with --port, or 0 for any")
    })?;
    Ok(listener.local_addr()?.port())
}
