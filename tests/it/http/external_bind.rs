//! `--external-http-bind`: the addresses on which the server with tokens listens.

use std::net::{Ipv4Addr, TcpStream};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, DevBed, Marked, try_start};
use crate::support::server::on_one_server;

/// The second address distinguishes a server on all addresses from one on the default one.
fn reaches(last: u8, port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::new(127, 0, 0, last), port)).is_ok()
}

#[tokio::test]
async fn only_the_named_addresses_or_all() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let config =
            bed.write("config.json", &json!({"compute_ctl_config": {"jwks": {"keys": []}}}));
        for (bind, first, second) in [
            (&[][..], true, true),
            (&["127.0.0.1"], true, false),
            (&["127.0.0.2"], false, true),
            (&["127.0.0.1,127.0.0.2"], true, true),
            (&["127.0.0.1", "127.0.0.2"], true, true),
            (&["0.0.0.0", "127.0.0.1"], true, true),
        ] {
            let mut line = bed.base_args();
            let config = config.display().to_string();
            line.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
            line.extend(bind.iter().flat_map(|it| ["--external-http-bind", it]).map(str::to_owned));
            let mut compute = Compute::spawn(&bed, &line, &[]);
            compute.wait_for_log("HTTP servers are listening").await;
            let reached = [1, 2].map(|last| reaches(last, bed.external_port));
            assert_eq!(reached, [first, second], "{bind:?}");
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
        let marked = Marked::put(&bed);
        let line = |address: &str| {
            let flag = ["--external-http-bind", address].map(str::to_owned);
            [bed.base_args(), bed.config_args(), flag.into()].concat()
        };
        let refusal = try_start(&bed, &line("192.0.2.1"), &[]).await;
        let port = bed.external_port;
        let begin = format!("the external HTTP server cannot use port {port} of 192.0.2.1: ");
        assert!(refusal.error().starts_with(&begin), "{}", refusal.stderr);
        assert!(refusal.error().contains("name one of its own with --external-http-bind"));
        let refusal = try_start(&bed, &line("localhost"), &[]).await;
        assert_eq!(refusal.code, Some(2), "{}", refusal.stderr);
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}

/// Unlike a compute, whose control plane is on another machine.
#[tokio::test]
async fn dev_listens_on_loopback_unless_told_otherwise() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        for (flags, second) in [(&[][..], false), (&["--external-http-bind", "0.0.0.0"], true)] {
            let mut run = bed.start(flags);
            let url = run.printed("curl ").await;
            let address = url.strip_prefix("http://").unwrap().strip_suffix("/status").unwrap();
            let (ip, port) = address.rsplit_once(':').unwrap();
            assert_eq!(ip, "127.0.0.1", "{url}");
            let port = port.parse().unwrap();
            assert_eq!([1, 2].map(|last| reaches(last, port)), [true, second], "{flags:?}");
            assert_eq!(run.stop(Signal::SIGINT).await, 0);
        }
        bed.assert_nothing_left();
    })
    .await;
}
