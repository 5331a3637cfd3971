//! Safekeepers that agree: no sync child, and the basebackup is at their LSN.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::network::{ClosedPort, SilentPort};
use crate::support::server::on_one_server;

/// Up, with the basebackup at this LSN and without a sync child.
async fn starts_without_sync(bed: &Bed, lsn: Option<&str>) {
    let mut compute = bed.start_with_punctual_safekeepers().await;
    assert_eq!(bed.wrapper.calls().unwrap(), [], "{}", compute.log());
    assert_eq!(bed.pageserver.journal().commands(), [bed.basebackup_command(lsn)]);
    let metrics = compute.get("/metrics.json").await.1;
    assert_eq!(metrics["sync_safekeepers_ms"], 0);
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_eq!(bed.wrapper.calls().unwrap(), [], "not after a signal either");
    assert_nothing_left(bed);
    bed.forget_journals();
}

#[tokio::test]
async fn one_and_three_that_agree() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        starts_without_sync(&bed, Some(LSN_TEXT)).await;
        bed.spec.safekeeper_connstrings.truncate(1);
        starts_without_sync(&bed, Some(LSN_TEXT)).await;
    })
    .await;
}

/// Whatever is wrong with the third one, the other two are a quorum.
#[tokio::test]
async fn one_of_three_does_not_matter() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        let third = bed.spec.safekeeper_connstrings[2].clone();
        let (closed, silent) = (ClosedPort::reserve(), SilentPort::open());
        for address in [closed.address(), silent.address(), "no-such-host.invalid:1".to_owned()] {
            bed.spec.safekeeper_connstrings[2] = address;
            starts_without_sync(&bed, Some(LSN_TEXT)).await;
        }
        bed.spec.safekeeper_connstrings[2] = third;
        bed.safekeepers[2].behave(|it| it.delay = Duration::from_secs(600));
        starts_without_sync(&bed, Some(LSN_TEXT)).await;
        // Behind the others, as after a restart; the quorum has what it lacks.
        bed.safekeepers[2].behave(|it| it.delay = Duration::ZERO);
        bed.safekeepers[2].set_lsn(1);
        starts_without_sync(&bed, Some(LSN_TEXT)).await;
    })
    .await;
}

/// A new timeline: the basebackup is the latest one.
#[tokio::test]
async fn zero_everywhere_means_no_lsn() {
    on_one_server(|server| async {
        let bed = Bed::with_safekeepers(server, 3).await;
        for safekeeper in &bed.safekeepers {
            safekeeper.set_lsn(0);
        }
        starts_without_sync(&bed, None).await;
    })
    .await;
}

#[tokio::test]
async fn the_token_is_their_password() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 1).await;
        bed.spec.storage_auth_token = Some("stub-token".to_owned());
        bed.safekeepers[0].behave(|it| it.password = Some("stub-token".to_owned()));
        let passwords = bed.safekeepers[0].journal();
        let mut compute = bed.start_with_punctual_safekeepers().await;
        assert_eq!(passwords.passwords(), ["stub-token"]);
        assert_eq!(bed.wrapper.calls().unwrap(), [], "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
