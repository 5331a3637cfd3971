//! Malformed archives: which are refused, and which are repaired.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, Entry, gzip_tar};
use crate::support::server::on_one_server;

/// Names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Names beside PGDATA, without those that a compute adds itself.
fn around(bed: &Bed) -> BTreeSet<String> {
    let mut names = names(bed.dir());
    names.retain(|name| !name.starts_with("compute-") && !name.starts_with(".pgdata.trash-"));
    names
}

#[tokio::test]
async fn what_climbs_or_links_is_refused_at_once() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let outside = bed.dir().join("victim");
        fs::write(&outside, "untouched").unwrap();
        let victim = outside.display().to_string();
        let cases = [
            (vec![Entry::File("../evil", b"x")], "\"../evil\" climbs out"),
            (vec![Entry::File("../victim", b"x")], "\"../victim\" climbs out"),
            (vec![Entry::File("base/../../evil", b"x")], "climbs out"),
            (vec![Entry::File("/../evil", b"x")], "climbs out"),
            (
                vec![Entry::Symlink("way-out", ".."), Entry::File("way-out/evil", b"x")],
                "entry way-out is a symbolic link",
            ),
            (
                vec![Entry::Symlink("base/victim", &victim), Entry::File("base/victim", b"x")],
                "entry base/victim is a symbolic link",
            ),
            (vec![Entry::HardLink("mine", &victim)], "entry mine is a hard link"),
        ];
        for (entries, words) in cases {
            println!("{words}");
            bed.forget_journals();
            bed.serve("hostile.tar.gz", &gzip_tar(&entries));
            let config = bed.write("config.json", &bed.spec.config());
            let before = around(&bed);
            let mut compute =
                bed.start_with(&["--compute-id", "c1", "--config", &config.display().to_string()]);
            let error = compute.wait_for_failure().await;
            assert!(error.contains("failed to get basebackup@"), "{error}");
            assert!(error.contains("the archive is refused") && error.contains(words), "{error}");
            assert_eq!(bed.pageserver.journal().commands().len(), 1, "one try");

            let mut after = around(&bed);
            after.remove("pgdata");
            let before: BTreeSet<_> = before.into_iter().filter(|name| name != "pgdata").collect();
            assert_eq!(after, before);
            assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
            let inside = names(&bed.pgdata());
            assert!(inside.is_subset(&["postgresql.conf", "base"].map(str::to_owned).into()));
            compute.dismiss().await;
            assert_nothing_left(&bed);
        }
    })
    .await;
}

#[tokio::test]
async fn absolute_names_stay_inside_and_our_configuration_stays_ours() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        // The path of this entry if its name were used unchanged.
        let outside = bed.dir().join("absolute");
        let name = outside.display().to_string();
        bed.serve_with(&[
            Entry::File(&name, b"x"),
            Entry::File("/top", b"x"),
            Entry::File("postgresql.conf", b"port = 1\n# theirs\n"),
            Entry::File("./postgresql.conf", b"port = 1\n# theirs\n"),
        ]);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        assert!(!outside.exists());
        assert_eq!(bed.pgdata_text(name.trim_start_matches('/')), "x");
        assert_eq!(bed.pgdata_text("top"), "x");
        let conf = bed.pgdata_text("postgresql.conf");
        assert!(!conf.contains("theirs") && conf.contains("neon.tenant_id"), "{conf}");
        let log = compute.settled_log().await;
        assert!(log.contains("the archive holds a postgresql.conf, which is ignored"), "{log}");
        assert_eq!(compute.sql_text("SHOW port").await, bed.port.to_string());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn an_old_signal_file_gets_its_new_name() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.serve_without(&["neon.signal"]);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let text = bed.pgdata_text("zenith.signal");
        assert!(text.starts_with("PREV LSN: "), "{text}");
        assert_eq!(bed.pgdata_text("neon.signal"), text);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
