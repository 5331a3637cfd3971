//! Which Postgres servers a test runs on.
//!
//! [`on_every_server`] is for behaviour that differs between major versions, or could. Everything
//! else runs on one server, chosen by the name of the test: all tests together cover every major
//! version, and the same test runs on the same one each time. `COMPUTE_CTL_TEST_SERVERS=all` runs
//! every test on every server.

use std::future::Future;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use compute_ctl::dev::servers::{PG_PATH_VARIABLE, Places, Server};
use compute_ctl::postgres::install::PgVersion;

/// Unset, or `all`.
const CHOICE_VARIABLE: &str = "COMPUTE_CTL_TEST_SERVERS";

/// Where `deploy/prepare --tests` puts servers: `.pg/<major>/bin`.
const PREPARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.pg");

/// The servers of 14 to 17 in the folders of `COMPUTE_CTL_PG_PATH`; without that variable the
/// newest of each major version on this machine, those of `deploy/prepare --tests` included. There
/// must be one; a run without a server proves nothing.
pub fn servers() -> &'static [Server] {
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
                // Newest first, so the first server of a major version is kept.
                servers.dedup_by_key(|server| server.major);
                servers
            }
        };
        assert!(
            !servers.is_empty(),
            "no PostgreSQL 14 to 17 found, deploy/prepare --tests installs some"
        );
        servers
    })
}

/// Runs a scenario with an outcome that may depend on the version on every server, one after the
/// other.
pub async fn on_every_server<S: Fn(Server) -> F, F: Future<Output = ()>>(scenario: S) {
    run(servers().iter().collect(), &scenario).await;
}

/// Runs a scenario on every server that has these libraries, which not every distribution has.
pub async fn on_servers_with<S: Fn(Server) -> F, F: Future<Output = ()>>(
    libraries: &[&str],
    scenario: S,
) {
    let has_all = |server: &&Server| {
        let told = Command::new(server.program("pg_config")).arg("--pkglibdir").output();
        let Ok(told) = told else { return false };
        let folder = String::from_utf8(told.stdout).unwrap();
        let there = |library: &str| Path::new(folder.trim()).join(format!("{library}.so")).exists();
        libraries.iter().all(|library| there(library))
    };
    let able: Vec<_> = servers().iter().filter(has_all).collect();
    if able.is_empty() {
        println!("skipped: no server has {libraries:?}");
    }
    run(able, &scenario).await;
}

/// Runs a scenario that is the same for all versions on one server.
pub async fn on_one_server<S: Fn(Server) -> F, F: Future<Output = ()>>(scenario: S) {
    run(chosen::<S>(servers().iter().collect()), &scenario).await;
}

/// The same on one that has a client program, which not every installation has.
pub async fn on_one_server_with<S: Fn(Server) -> F, F: Future<Output = ()>>(
    program: &str,
    scenario: S,
) {
    let able = servers().iter().filter(|server| server.program(program).exists());
    let able: Vec<_> = able.collect();
    assert!(!able.is_empty(), "no server has {program}, those of Debian have");
    run(chosen::<S>(able), &scenario).await;
}

/// The version as the program's own functions take it.
pub fn pg_version(server: &Server) -> PgVersion {
    match server.major {
        14 => PgVersion::V14,
        15 => PgVersion::V15,
        16 => PgVersion::V16,
        _ => PgVersion::V17,
    }
}

async fn run<S: Fn(Server) -> F, F: Future<Output = ()>>(servers: Vec<&Server>, scenario: &S) {
    for server in servers {
        // Shows how to repeat a failure on this server only.
        let (version, folder) = (&server.version, server.bin_dir.display());
        println!("--- PostgreSQL {version}: {PG_PATH_VARIABLE}={folder}");
        scenario(server.clone()).await;
    }
}

/// The server that a scenario of this type runs on; all of them when asked for.
fn chosen<S>(mut servers: Vec<&Server>) -> Vec<&Server> {
    match std::env::var(CHOICE_VARIABLE) {
        Err(std::env::VarError::NotPresent) => {
            let name = test_name(std::any::type_name::<S>());
            vec![servers.swap_remove(choice(name, servers.len()))]
        }
        Ok(all) if all == "all" => servers,
        other => panic!("{CHOICE_VARIABLE} is {other:?}, it can only be `all`"),
    }
}

/// The path of the function that contains a closure. The name of the thread does not work: with one
/// thread all tests run on the main thread.
fn test_name(closure: &str) -> &str {
    closure.split("::{{closure}}").next().unwrap_or(closure)
}

/// The index of the server for a name, by FNV-1a, because the hasher of the standard library may
/// change with the compiler. The remainder of a prime spreads names that differ in one letter.
fn choice(name: &str, count: usize) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    usize::try_from(hash % 65_521).unwrap() % count
}

#[test]
fn the_choice_is_stable() {
    let chosen = ["first", "second", "it::catalog::roles::passwords"].map(|name| choice(name, 4));
    assert_eq!(chosen, [3, 1, 2]);
    let scenario = |_: Server| async {};
    let name = std::any::type_name_of_val(&scenario);
    assert_eq!(test_name(name), "it::support::server::choice::the_choice_is_stable");
}

#[test]
fn every_server_gets_a_share() {
    for count in 1..=4 {
        let mut shares = vec![0; count];
        for number in 0..400 {
            shares[choice(&format!("it::folder::file::test_{number}"), count)] += 1;
        }
        assert!(shares.iter().all(|share| *share * count > 300), "{shares:?}");
    }
}
