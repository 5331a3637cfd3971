//! Warm-up of an empty compute (01 §6): a temporary Postgres loads programs and memory into the
//! machine before the compute answers on its ports.
//!
//! Best effort: nothing depends on the warm-up, so a failure is logged and the compute goes on. It
//! is bounded, and everything it started is stopped and removed, even after a signal.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use tokio::process::Command;

use crate::duration::millis;
use crate::node::ComputeNode;
use crate::postgres::process::{PostgresProcess, Server};
use crate::postgres::ready::ReadyWatch;
use crate::postgres::stop::StopLadder;

/// How much of a helper's output an error text keeps.
const OUTPUT_LIMIT: usize = 4096;

/// Runs the warm-up to its end.
pub(crate) async fn run(node: &ComputeNode) {
    let began = Instant::now();
    let mut directory = node.params.pgdata.clone().into_os_string();
    directory.push(".warmup");
    let directory = WarmupDirectory(PathBuf::from(directory));
    match warm_up(node, &directory.0).await {
        Ok(()) => tracing::info!("warm-up took {} ms", millis(began.elapsed())),
        Err(error) => tracing::warn!("the warm-up did not work, going on without: {error:#}"),
    }
}

/// The directory of the warm-up; removed before it and at its end.
struct WarmupDirectory(PathBuf);

impl Drop for WarmupDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn warm_up(node: &ComputeNode, directory: &Path) -> anyhow::Result<()> {
    let (params, timeouts) = (&node.params, &node.params.timeouts);
    let _ = std::fs::remove_dir_all(directory);

    let mut initdb = Command::new(params.install.program("initdb"));
    // What is deleted a moment later needs no sync.
    initdb.arg("--pgdata").arg(directory).arg("--no-sync");
    let output = node.children.run(initdb, timeouts.postgres.initdb, OUTPUT_LIMIT).await?;
    if !output.status.success() {
        tracing::warn!(
            "initdb of the warm-up ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let conf = configuration(params.install.has_library("neon") != Some(false), directory);
    std::fs::write(directory.join("postgresql.conf"), conf)
        .with_context(|| format!("could not write postgresql.conf in {}", directory.display()))?;

    let server = Server {
        postgres: params.install.postgres.clone(),
        cgexec: params.autoscaling,
        env: Vec::new(),
    };
    let watch = ReadyWatch::new(directory);
    let mut postgres = PostgresProcess::start(&server, directory, &node.children, &node.log)?;
    let ready = postgres.wait_ready(watch, &timeouts.postgres).await;
    let ladder = StopLadder::immediate(&timeouts.postgres);
    postgres.stop(&ladder, std::future::pending(), &timeouts.postgres).await?;
    Ok(ready?)
}

/// The three settings of the document; `neon` is not preloaded where it does not exist. Users
/// cannot reach this server: it listens on no address, and its socket is in its own directory.
fn configuration(preload_neon: bool, directory: &Path) -> String {
    let mut conf = "shared_buffers=65536\nport=51055\n".to_owned();
    if preload_neon {
        conf.push_str("shared_preload_libraries = 'neon'\n");
    }
    let sockets = directory.display().to_string();
    conf.push_str("listen_addresses=''\n");
    // A path longer than a socket address allows would keep the server from starting.
    if sockets.len() < 80 && !sockets.contains(['\'', '\\', ',', '\n']) {
        conf.push_str(&format!("unix_socket_directories='{sockets}'\n"));
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_server_is_out_of_reach() {
        let conf = configuration(true, Path::new("/pg/data.warmup"));
        assert_eq!(
            conf,
            "shared_buffers=65536\nport=51055\nshared_preload_libraries = 'neon'\n\
             listen_addresses=''\nunix_socket_directories='/pg/data.warmup'\n"
        );
        assert!(!configuration(false, Path::new("/d")).contains("neon"));
        let long = "/x".repeat(60);
        assert!(!configuration(false, Path::new(&long)).contains("unix_socket"));
    }
}
