//! `--internal-http-bind`: the addresses on which the server without tokens listens.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, try_start};
use crate::support::server::on_one_server;

const WARNING: &str = "the internal HTTP server asks for no token and is reachable from outside";

async fn start(bed: &Bed, bind: Option<&str>) -> Compute {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    line.extend(bind.into_iter().flat_map(|it| ["--internal-http-bind".to_owned(), it.to_owned()]));
    let mut compute = Compute::spawn(bed, &line, &[]);
    compute.wait_for("running").await;
    compute
}

#[tokio::test]
async fn only_loopback_unless_told_otherwise() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        // The second address distinguishes a server on all addresses from one on the default
        // address.
        let reaches =
            |last| TcpStream::connect((Ipv4Addr::new(127, 0, 0, last), bed.internal_port)).is_ok();
        let ipv6 = TcpListener::bind("[::]:0").is_ok().then_some((Some("::"), true, true));
        for (bind, second, outside) in [
            (None, false, false),
            (Some("127.0.0.1"), false, false),
            (Some("127.0.0.2"), true, false),
            (Some("0.0.0.0"), true, true),
        ]
        .into_iter()
        .chain(ipv6)
        {
            let mut compute = start(&bed, bind).await;
            assert!(reaches(1), "{bind:?}: Postgres finds it on localhost");
            assert_eq!(reaches(2), second, "{bind:?}");
            let log = compute.settled_log().await;
            assert_eq!(log.contains(WARNING), outside, "{bind:?}\n{log}");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// An address that this machine does not have ends the process before anything is changed.
#[tokio::test]
async fn an_address_of_another_machine() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        line.extend(["--internal-http-bind", "192.0.2.1"].map(str::to_owned));
        let refusal = try_start(&bed, &line, &[]).await;
        assert!(refusal.error().contains("the internal HTTP server cannot use port"));
        assert_nothing_left(&bed);
    })
    .await;
}
