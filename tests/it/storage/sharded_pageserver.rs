//! Two shards, given by connection strings: the basebackup comes from the first.

use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::server::on_one_server;

#[tokio::test]
async fn the_first_of_two_is_asked_with_the_plain_tenant_id() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let options = PageserverOptions { archive: bed.archive(), port: 0, password: None };
        let second = StandInPageserver::start(options).await.unwrap();
        let urls = format!("{},{}", bed.pageserver.connstring(), second.connstring());
        bed.spec.pageserver_connstring.clone_from(&urls);
        bed.spec.member("shard_stripe_size", json!(2048));
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert_eq!(bed.pageserver.journal().commands(), [bed.basebackup_command(Some(LSN_TEXT))]);
        assert_eq!(second.journal().connections(), 0);

        // On a reload the extension uses the stripe size that is in force when the connection
        // string is assigned.
        let conf = bed.pgdata_text("postgresql.conf");
        let lines: Vec<&str> = conf.lines().collect();
        let at = |line: &str| {
            lines.iter().position(|it| *it == line).unwrap_or_else(|| panic!("{conf}"))
        };
        let stripe_size = at("neon.stripe_size=2048");
        let connstring = at(&format!("neon.pageserver_connstring='{urls}'"));
        assert!(stripe_size < connstring, "{conf}");
        for name in ["neon.stripe_size=", "neon.pageserver_connstring="] {
            assert_eq!(lines.iter().filter(|it| it.starts_with(name)).count(), 1, "{name}");
        }
        assert_eq!(compute.sql_text("SHOW neon.pageserver_connstring").await, urls);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn two_without_a_stripe_size_are_refused_before_anything_is_touched() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let url = bed.pageserver.connstring();
        bed.spec.pageserver_connstring = format!("{url},{url}");
        let mut compute = bed.start();
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        let log = compute.log();
        assert!(log.contains("Error: ") && log.contains("2 shards but no stripe_size"), "{log}");
        // As root an empty directory is made for the user that the daemon becomes.
        assert!(
            std::fs::read_dir(bed.pgdata()).is_ok_and(|mut it| it.next().is_none())
                || !bed.pgdata().exists()
        );
        assert_eq!(bed.pageserver.journal().connections(), 0);
        assert_nothing_left(&bed);
    })
    .await;
}
