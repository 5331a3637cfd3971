//! How often a start waits for the network: at most five consecutive round trips from the spec to
//! the start of Postgres, including authentication everywhere and the opening of connections.
//!
//! The test counts which message waited for which answer (see [`Network`]), not time.

use std::time::Duration;

use compute_ctl::spec::pageserver::PageserverProtocol;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::network::Network;
use crate::support::server::on_one_server;

const ROUND_TRIP: Duration = Duration::from_millis(50);
const ALLOWED: usize = 5;
/// On a busy machine a delay of a whole round trip makes steps consecutive that need not wait for
/// each other. A round trip too many in the program shows up in every run.
const STARTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_libpq() {
    at_most_five(PageserverProtocol::Libpq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    at_most_five(PageserverProtocol::Grpc).await;
}

async fn at_most_five(protocol: PageserverProtocol) {
    on_one_server(|server| async move {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        let network = put_between(&mut bed, protocol).await;
        let mut fewest = usize::MAX;
        for _ in 0..STARTS {
            network.restart();
            let mut compute = bed.start();
            compute.wait_for("running").await;
            let round_trips = network.round_trips();
            let log = compute.settled_log().await;
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            compute.forget_log();
            println!("{protocol:?}: {round_trips} round trips\n{}", network.waterfall());
            // Without the answer of the safekeepers the start waits for less.
            if log.contains("safekeepers are in sync") {
                fewest = fewest.min(round_trips);
            }
            if fewest <= ALLOWED {
                break;
            }
        }
        assert!(fewest <= ALLOWED, "{fewest} round trips");
        // Otherwise the network did not see the connections at all.
        assert_eq!(fewest, ALLOWED, "connect, start up, password, status; basebackup");
        assert_nothing_left(&bed);
    })
    .await;
}

/// All storage wants a token and is far away.
async fn put_between(bed: &mut Bed, protocol: PageserverProtocol) -> Network {
    let mut network = Network::new(ROUND_TRIP);
    let token = Some("stub-token".to_owned());
    bed.spec.storage_auth_token.clone_from(&token);
    bed.pageserver.behave(|it| it.password.clone_from(&token));
    let mut addresses = Vec::new();
    for (n, safekeeper) in bed.safekeepers.iter().enumerate() {
        safekeeper.behave(|it| it.password.clone_from(&token));
        let port = network.link(&format!("safekeeper {n}"), safekeeper.port()).await;
        addresses.push(format!("127.0.0.1:{port}"));
    }
    bed.spec.safekeeper_connstrings = addresses;
    let libpq = network.link("pageserver", bed.pageserver.port()).await;
    let grpc = network.link("pageserver (gRPC)", bed.pageserver.grpc_port()).await;
    let prefer = if protocol == PageserverProtocol::Grpc { "grpc" } else { "libpq" };
    bed.spec.member(
        "pageserver_connection_info",
        json!({"shard_count": 0, "prefer_protocol": prefer, "shards": {"0000": {"pageservers": [{
            "libpq_url": format!("postgresql://no_user@127.0.0.1:{libpq}"),
            "grpc_url": format!("grpc://no_user@127.0.0.1:{grpc}"),
        }]}}}),
    );
    network
}
