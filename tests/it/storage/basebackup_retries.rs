//! A pageserver that fails and then works: the basebackup is retried, and no file of a failed
//! attempt is left.

use std::fs;

use compute_ctl::dev::pageserver::Fault;
use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, Entry, LSN_TEXT, gzip_tar};
use crate::support::server::on_one_server;

/// Two failures, the log line about each, and the number of connections that reached the command.
type Case = ([Fault; 2], [&'static str; 2], usize);

fn cases() -> [Case; 5] {
    let text = str::to_owned;
    [
        ([Fault::Refuse, Fault::Refuse], ["was lost", "was lost"], 1),
        (
            [Fault::Error(text("tenant is moving")), Fault::DropAfter(300_000)],
            ["the pageserver answers: tenant is moving (SQLSTATE XX000)", "was lost"],
            3,
        ),
        (
            [
                Fault::ErrorAfter(700_000, text("disk on fire")),
                Fault::ErrorAfterArchive(text("late news")),
            ],
            ["the pageserver answers: disk on fire", "the pageserver answers: late news"],
            3,
        ),
        (
            [Fault::ErrorAfterCopyDone(text("very late news")), Fault::Garbage],
            ["the pageserver answers: very late news", "not a complete gzip stream"],
            3,
        ),
        ([Fault::Truncated(700_000), Fault::Empty], ["not a complete gzip", "archive is empty"], 3),
    ]
}

#[tokio::test]
async fn every_failure_is_tried_again() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let size = fs::metadata(bed.archive()).unwrap().len();
        for ([first, second], [first_words, second_words], commands) in cases() {
            println!("{first:?}, {second:?}");
            let journal = bed.pageserver.journal();
            journal.clear();
            bed.pageserver.set_fault(first, Some(1));
            bed.pageserver.then_fault(second, Some(1));
            let mut compute = bed.start();
            compute.forget_log();
            compute.wait_for("running").await;

            let log = compute.settled_log().await;
            let failures: Vec<&str> =
                log.lines().filter(|line| line.contains("Failed to get basebackup: ")).collect();
            assert_eq!(failures.len(), 2, "{log}");
            for (n, words) in [first_words, second_words].into_iter().enumerate() {
                assert!(failures[n].contains(words), "{words}: {failures:?}");
                assert!(failures[n].ends_with(&format!("(attempt {}/11)", n + 1)), "{failures:?}");
            }
            assert_eq!(journal.connections(), 3);
            let command = bed.basebackup_command(Some(LSN_TEXT));
            assert_eq!(journal.commands(), vec![command; commands]);
            let metrics = compute.get("/metrics.json").await.1;
            assert_eq!(metrics["basebackup_bytes"], size, "those of the try that succeeded");
            assert_eq!(compute.sql_text("SELECT count(*) > 0 FROM pg_class").await, "t");

            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_cut_archive_is_left() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let good = bed.archive();
        let mut noise = vec![0; 1_000_000];
        fastrand::Rng::with_seed(7).fill(&mut noise);
        let entries = [
            Entry::File("leftover", b"x"),
            Entry::File("base/1/leftover", b"x"),
            // A file that conflicts with the same names in the good archive.
            Entry::File("pg_wal/leftover/x", b"x"),
            Entry::File("pg_dynshmem", b"a file"),
            Entry::File("noise", &noise),
        ];
        let archive = gzip_tar(&entries);
        bed.serve("cut.tar.gz", &archive[..archive.len() - 50_000]);
        let mut compute = bed.start();
        let leftovers =
            ["leftover", "base/1/leftover", "pg_wal/leftover"].map(|name| bed.pgdata().join(name));
        eventually("the first try has left something", || leftovers.iter().all(|it| it.exists()))
            .await;
        bed.pageserver.set_archive(&good);
        compute.wait_for("running").await;
        compute.wait_for_log("(attempt 1/11)").await;
        for leftover in &leftovers {
            assert!(!leftover.exists(), "{}", leftover.display());
        }
        assert!(bed.pgdata_text("postgresql.conf").contains("neon.tenant_id"));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
