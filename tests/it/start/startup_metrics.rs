//! `/metrics.json` after a start: names, units, and the values that are known.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

/// All members; readers expect exactly these.
const MEMBERS: [&str; 13] = [
    "basebackup_bytes",
    "basebackup_ms",
    "config_ms",
    "largest_ext_size",
    "load_ext_ms",
    "num_ext_downloaded",
    "pageserver_connect_micros",
    "start_postgres_ms",
    "sync_safekeepers_ms",
    "sync_sk_check_ms",
    "total_ext_download_size",
    "total_startup_ms",
    "wait_for_spec_ms",
];

#[tokio::test]
async fn after_a_start_with_a_sync() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.safekeepers[0].behave(|it| it.unknown_timeline = true);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let metrics = compute.get("/metrics.json").await.1;
        let mut names: Vec<_> = metrics.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, MEMBERS);

        let figure = |name: &str| metrics[name].as_u64().unwrap_or_else(|| panic!("{name}"));
        assert_eq!(figure("basebackup_bytes"), fs::metadata(bed.archive()).unwrap().len());
        for name in [
            "basebackup_ms",
            "pageserver_connect_micros",
            "start_postgres_ms",
            // The sync started a process.
            "sync_safekeepers_ms",
            "total_startup_ms",
        ] {
            assert!(figure(name) > 0, "{name}: {metrics}");
        }
        for name in
            ["load_ext_ms", "num_ext_downloaded", "largest_ext_size", "total_ext_download_size"]
        {
            assert_eq!(figure(name), 0, "{name}");
        }
        assert_eq!(figure("wait_for_spec_ms"), 0, "the spec was at hand");
        let parts = ["sync_safekeepers_ms", "basebackup_ms", "start_postgres_ms"].map(figure);
        assert!(figure("total_startup_ms") >= parts.iter().sum(), "{metrics}");
        assert!(figure("pageserver_connect_micros") / 1000 <= figure("total_startup_ms"));
        // One line of the log has the same values.
        let line = format!("\"basebackup_bytes\":{}", figure("basebackup_bytes"));
        compute.wait_for_log(&line).await;

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
