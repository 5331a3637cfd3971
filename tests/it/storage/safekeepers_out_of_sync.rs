//! Safekeepers that do not agree: the sync child runs once, and its LSN is the one used.

use std::time::Duration;

use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

const FLUSHED: u64 = 0x1F3_0EC8;
/// What the sync child prints.
const SYNCED: u64 = 0x1A2_B3C8;
const SYNCED_TEXT: &str = "0/1A2B3C8";

/// How the safekeepers differ from three that agree.
type Disagreement = fn(&[StandInSafekeeper]);

const DISAGREEMENTS: [(&str, Disagreement); 7] = [
    ("commit behind flush everywhere", |all| {
        all.iter().for_each(|it| it.behave(|it| it.commit_lsn -= 8));
    }),
    ("commit behind flush on one of two that answer", |all| {
        all[0].behave(|it| it.commit_lsn -= 8);
        all[1].behave(|it| it.refuse = true);
    }),
    ("three different positions", |all| {
        all[0].set_lsn(FLUSHED + 8);
        all[1].set_lsn(FLUSHED + 16);
    }),
    ("timeline unknown to two", |all| {
        all[..2].iter().for_each(|it| it.behave(|it| it.unknown_timeline = true));
    }),
    ("answers that are not an LSN", |all| {
        all[..2].iter().for_each(|it| it.behave(|it| it.garbage = Some("soon".to_owned())));
    }),
    ("errors for answers", |all| {
        all[..2].iter().for_each(|it| it.behave(|it| it.error = Some("out of order".to_owned())));
    }),
    ("two that take too long", |all| {
        all[1..].iter().for_each(|it| it.behave(|it| it.delay = Duration::from_secs(600)));
    }),
];

#[tokio::test]
async fn the_sync_child_decides() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        bed.spec.storage_auth_token = Some("stub-token".to_owned());
        bed.wrapper.set_lsn(SYNCED).unwrap();
        // All runs use the same PGDATA: the child must not see the files of the last compute.
        for (name, disagree) in DISAGREEMENTS {
            println!("{name}");
            for safekeeper in &bed.safekeepers {
                safekeeper.behave(|it| *it = SafekeeperBehaviour::at(FLUSHED));
            }
            disagree(&bed.safekeepers);
            let mut compute = bed.start();
            compute.wait_for("running").await;

            let calls = bed.wrapper.calls().unwrap();
            assert_eq!(calls.len(), 1, "{name}: {calls:?}\n{}", compute.log());
            assert_eq!(calls[0].pgdata, bed.pgdata().display().to_string());
            assert_eq!(calls[0].token.as_deref(), Some("stub-token"));
            assert_eq!(calls[0].files, ["postgresql.conf"], "{name}");
            assert_eq!(
                bed.pageserver.journal().commands(),
                [bed.basebackup_command(Some(SYNCED_TEXT))],
                "{name}"
            );

            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_eq!(bed.wrapper.calls().unwrap().len(), 1, "none after a signal");
            assert_nothing_left(&bed);
            bed.forget_journals();
        }
    })
    .await;
}

#[tokio::test]
async fn a_sync_at_zero_means_no_lsn() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        bed.wrapper.set_lsn(0).unwrap();
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let calls = bed.wrapper.calls().unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].token, None, "the spec has no token");
        assert_eq!(bed.pageserver.journal().commands(), [bed.basebackup_command(None)]);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
