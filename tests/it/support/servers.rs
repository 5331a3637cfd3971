//! Which Postgres servers the tests run on.

use std::future::Future;
use std::sync::OnceLock;

use compute_ctl::dev::servers::{Server, find_servers};

/// All servers of 14 to 17 on this machine: `COMPUTE_CTL_PG_PATH` (folders with the programs,
/// separated by colons), PATH, the usual places. There must be one; a run without a server proves
/// nothing.
fn servers() -> &'static [Server] {
    static SERVERS: OnceLock<Vec<Server>> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let servers = find_servers(None);
        assert!(
            !servers.is_empty(),
            "no PostgreSQL 14 to 17 found; the README says how to get one"
        );
        for server in &servers {
            println!("testing on PostgreSQL {} in {}", server.version, server.bin_dir.display());
        }
        servers
    })
}

/// Runs a scenario on every server, one after the other.
pub async fn on_every_server<F: Future<Output = ()>>(scenario: impl Fn(Server) -> F) {
    for server in servers() {
        println!("--- PostgreSQL {}", server.version);
        scenario(server.clone()).await;
    }
}

/// Runs a scenario that does not depend on the server's version on the newest one.
pub async fn on_one_server<F: Future<Output = ()>>(scenario: impl FnOnce(Server) -> F) {
    let server = servers()[0].clone();
    println!("--- PostgreSQL {}", server.version);
    scenario(server).await;
}
