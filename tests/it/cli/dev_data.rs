//! `compute_ctl dev --data`: what is kept between runs, and what a crash cannot damage.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::process::DevBed;
use crate::support::server::on_one_server;

#[tokio::test]
async fn tables_survive_a_restart_and_a_crash_keeps_the_last_good_base() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let mut first = bed.start_kept(&[]);
        first.sql("CREATE TABLE kept AS SELECT 4711 AS number").await;
        let connstr = first.printed("psql ").await;
        assert_eq!(first.stop(Signal::SIGINT).await, 0, "{}", first.output());
        bed.assert_nothing_left();

        // The same port, so that the Postgres left by the crash occupies it.
        let port = connstr.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.to_owned();
        let mut second = bed.start_kept(&["--port", &port]);
        assert_eq!(second.sql("SELECT number FROM kept").await, "4711");
        second.sql("CREATE TABLE lost AS SELECT 1; CHECKPOINT").await;
        assert_eq!(second.stop(Signal::SIGKILL).await, -1);

        let mut third = bed.start_kept(&["--port", &port]);
        assert_eq!(third.sql("SELECT number FROM kept").await, "4711");
        let said = third.output();
        assert!(said.contains("everything that it changed is lost"), "{said}");
        assert_eq!(third.sql("SELECT to_regclass('lost') IS NULL").await, "t");
        assert_eq!(third.stop(Signal::SIGINT).await, 0, "{}", third.output());
        bed.assert_nothing_left();
    })
    .await;
}

#[tokio::test]
async fn data_of_another_major_version_is_refused() {
    on_one_server(|server| async {
        let major = server.major;
        let bed = DevBed::new(server);
        let mut dev = bed.start_kept(&[]);
        dev.printed("psql ").await;
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        let base = bed.data().join("base.tar.gz");
        let before = std::fs::read(&base).unwrap();

        // Its files look like a server of another version.
        let other = if major == 14 { 15 } else { 14 };
        let bin = bed.dir().join("output.d");
        std::fs::create_dir(&bin).unwrap();
        let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {other}.1'\n");
        for name in ["postgres", "initdb"] {
            std::fs::write(bin.join(name), &script).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(bin.join(name), mode).unwrap();
        }
        let bin_text = bin.display().to_string();
        let said = bed.start_kept(&["--pgbin", &bin_text]).refused().await;
        assert!(said.contains(&format!("made by PostgreSQL {major}")), "{said}");
        assert!(said.contains("--pgbin"), "{said}");
        std::fs::remove_dir_all(bin).unwrap();
        assert!(std::fs::read(&base).unwrap() == before, "the base has changed");
        bed.assert_nothing_left();
    })
    .await;
}

#[tokio::test]
async fn a_second_run_on_the_same_data_and_a_foreign_folder_are_refused() {
    on_one_server(|server| async {
        let bed = DevBed::new(server.clone());
        let mut dev = bed.start_kept(&[]);
        dev.printed("psql ").await;
        let elsewhere = DevBed::new(server);
        let data = bed.data().display().to_string();
        let said = elsewhere.start(&["--data", &data]).refused().await;
        assert!(said.contains("another compute_ctl") && said.contains(&data), "{said}");
        assert!(said.contains("--data") && !said.contains("--pgdata"), "{said}");
        assert_eq!(dev.sql("SELECT 1").await, "1", "the first one is not disturbed");
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        bed.assert_nothing_left();

        std::fs::create_dir(elsewhere.data()).unwrap();
        std::fs::write(elsewhere.data().join("thesis.tex"), "").unwrap();
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(elsewhere.data(), mode).unwrap();
        let said = elsewhere.start_kept(&[]).refused().await;
        assert!(said.contains("thesis.tex"), "{said}");
        assert_eq!(std::fs::read_dir(elsewhere.data()).unwrap().count(), 1);
        elsewhere.assert_nothing_left();
    })
    .await;
}
