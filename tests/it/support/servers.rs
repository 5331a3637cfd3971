//! Which Postgres servers the tests run on.

use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use compute_ctl::dev::servers::{PG_PATH_VARIABLE, Places, Server};

/// Where `deploy/prepare --tests` puts servers: `.pg/<major>/bin`.
const PREPARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.pg");

/// The servers of 14 to 17 in the folders of `COMPUTE_CTL_PG_PATH`; without that variable the
/// newest of each major version on this machine, those of `deploy/prepare --tests` included. There
/// must be one; a run without a server proves nothing.
fn servers() -> &'static [Server] {
    static SERVERS: OnceLock<Vec<Server>> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let servers = match std::env::var_os(PG_PATH_VARIABLE) {
            Some(given) => {
                let folders = std::env::split_paths(&given).collect();
                Places { explicit: None, folders }.find()
            }
            None => {
                let mut places = Places::from_env(None);
                let prepared = std::fs::read_dir(PREPARED).into_iter().flatten().flatten();
                places.folders.extend(prepared.map(|entry| entry.path().join("bin")));
                let mut servers = places.find();
                // Newest first, so the first one of a major version stays.
                servers.dedup_by_key(|server| server.major);
                servers
            }
        };
        assert!(
            !servers.is_empty(),
            "no PostgreSQL 14 to 17 found, deploy/prepare --tests installs some"
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

/// Runs a scenario on every server that has these libraries, which not every distribution has.
pub async fn on_servers_with<F: Future<Output = ()>>(
    libraries: &[&str],
    scenario: impl Fn(Server) -> F,
) {
    let has_all = |server: &&Server| {
        let told = Command::new(server.program("pg_config")).arg("--pkglibdir").output();
        let Ok(told) = told else { return false };
        let folder = String::from_utf8(told.stdout).unwrap();
        let there = |library: &str| Path::new(folder.trim()).join(format!("{library}.so")).exists();
        libraries.iter().all(|library| there(library))
    };
    let mut count = 0;
    for server in servers().iter().filter(has_all) {
        println!("--- PostgreSQL {}", server.version);
        scenario(server.clone()).await;
        count += 1;
    }
    if count == 0 {
        println!("skipped: no server has {libraries:?}");
    }
}

/// Runs a scenario that does not depend on the server's version on the newest one.
pub async fn on_one_server<F: Future<Output = ()>>(scenario: impl FnOnce(Server) -> F) {
    let server = servers()[0].clone();
    println!("--- PostgreSQL {}", server.version);
    scenario(server).await;
}

/// The same on the newest one that has a client program, which not every installation has.
pub async fn on_one_server_with<F: Future<Output = ()>>(
    program: &str,
    scenario: impl FnOnce(Server) -> F,
) {
    let server = servers().iter().find(|server| server.program(program).exists());
    let server = server.unwrap_or_else(|| panic!("no server has {program}, those of Debian have"));
    println!("--- PostgreSQL {}", server.version);
    scenario(server.clone()).await;
}
