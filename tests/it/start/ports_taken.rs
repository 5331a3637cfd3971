//! A port in use by another process is an error before PGDATA is changed.

use std::net::TcpListener;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Marked, try_start};
use crate::support::server::on_one_server;

#[tokio::test]
async fn a_taken_port_is_an_error_with_its_flag() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(owner) = TcpListener::bind(address) else {
                println!("skipped: this machine has no {address}");
                continue;
            };
            let taken = owner.local_addr().unwrap().port();
            for flag in ["--external-http-port", "--internal-http-port"] {
                let mut line = bed.base_args();
                line.extend(bed.config_args());
                let at = line.iter().position(|word| word == flag).unwrap();
                line[at + 1] = taken.to_string();
                let refusal = try_start(&bed, &line, &[]).await;
                let error = refusal.error();
                assert!(error.contains(flag), "{address}: {error}");
                assert!(error.contains(&format!("port {taken}")), "{address}: {error}");
            }
        }
        bed.internal_port = bed.external_port;
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let refusal = try_start(&bed, &line, &[]).await;
        assert!(refusal.error().contains("--internal-http-port"), "{}", refusal.stderr);

        marked.assert_untouched();
        assert_eq!(bed.pageserver.journal().connections(), 0);
        assert_nothing_left(&bed);
    })
    .await;
}
