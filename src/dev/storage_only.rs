//! `compute_ctl dev --storage-only`: the stand-in storage without a compute, for computes that are
//! started in production form.
//!
//! Writes a configuration for them, prints how to start one, and serves until Ctrl-C. Computes can
//! be started on it one after the other: [`super::wal`] keeps what they write.

use std::path::Path;
use std::sync::Arc;

use super::progress::say;
use super::servers::Server;
use super::spec::{TENANT_ID, TIMELINE_ID};
use super::storage::{self, Storage};
use super::store::{self, Store};
use crate::cli::DevArgs;
use crate::life::Process;

/// After this time a segment is archived although it is not full, so that little is lost if a compute
/// is killed.
const ARCHIVE_TIMEOUT: &str = "5";

/// Serves until the process is told to stop.
pub(super) async fn run(
    args: &DevArgs,
    server: &Server,
    store: &Store,
    process: &Process,
) -> anyhow::Result<()> {
    let base = store.base(server, &process.children).await?;
    let wal = Arc::new(store.wal().await?);
    let ports: Vec<u16> = match args.safekeeper_port {
        0 => vec![0; args.safekeepers],
        first => (first..).take(args.safekeepers).collect(),
    };
    let storage = Storage::start(&base, args.pageserver_port, &ports).await?;
    storage.follow(&wal);

    let port = match args.port {
        0 => storage::free_port(0)?,
        port => port,
    };
    let mut spec = storage.spec(args, store, port);
    spec.typed("archive_mode", "on", "enum").set("archive_command", &wal.command()).typed(
        "archive_timeout",
        ARCHIVE_TIMEOUT,
        "integer",
    );
    let config = match &args.write_config {
        Some(file) => std::path::absolute(file)?,
        None => store.path(store::CONFIG),
    };
    storage::write_config(&spec, &config)?;
    announce(port, &storage, server, store, &config);
    process.stop.requested.cancelled().await;
    Ok(())
}

fn announce(port: u16, storage: &Storage, server: &Server, store: &Store, config: &Path) {
    say(format_args!(
        "the storage serves\n\n  \
         pageserver     {}\n  \
         safekeepers    {}\n  \
         tenant         {TENANT_ID}\n  \
         timeline       {TIMELINE_ID}\n  \
         configuration  {}\n\n\
         start a compute in another terminal, and the next one when it has ended:\n\n  \
         compute_ctl -D {} -C postgresql://cloud_admin@127.0.0.1:{port}/postgres -b {} \
         --compute-id c1 --config {}\n\n\
         stop with Ctrl-C{}",
        storage.pageserver.connstring(),
        storage.safekeeper_addresses().join(","),
        config.display(),
        store.pgdata().display(),
        server.postgres.display(),
        config.display(),
        if store.is_kept() { "" } else { "; everything is temporary, --data DIR keeps it" }
    ));
}
