//! The first start of a primary: the order of statuses, the requests to storage, the files in
//! PGDATA.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::server::on_every_server;

#[tokio::test]
async fn a_primary_comes_up_and_goes_down() {
    on_every_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        bed.spec.storage_auth_token = Some("stub-token".to_owned());
        let mut compute = bed.start();
        let seen = compute.wait_for("running").await;
        assert!(seen == ["init", "running"] || seen == ["running"], "{seen:?}");

        let (_, status) = compute.get("/status").await;
        assert_eq!(status["tenant"], bed.spec.tenant_id);
        assert_eq!(status["timeline"], bed.spec.timeline_id);
        assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");

        let [commands, startups] = [
            bed.pageserver.journal().commands(),
            vec![format!("{:?}", bed.pageserver.journal().startups())],
        ];
        let (tenant, timeline) = (&bed.spec.tenant_id, &bed.spec.timeline_id);
        assert_eq!(commands, [format!("basebackup {tenant} {timeline} {LSN_TEXT} --gzip")]);
        for part in ["compute_ctl", "-c neon.compute_mode=primary", "no_user"] {
            assert!(startups[0].contains(part), "{startups:?}");
        }
        // On a busy machine the safekeepers can be too slow for the quick check.
        if !compute.settled_log().await.contains("no answer within") {
            assert_eq!(bed.wrapper.calls().unwrap(), [], "the quick check was enough");
        }
        // The start does not wait for the third.
        let options = format!("-c timeline_id={timeline} tenant_id={tenant}");
        let asked = bed.safekeepers.iter().map(|it| format!("{:?}", it.journal().startups()));
        assert!(asked.filter(|startups| startups.contains(&options)).count() >= 2);

        let pgdata = bed.pgdata();
        let meta = std::fs::metadata(&pgdata).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o700);
        if nix::unistd::geteuid().is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
            assert_eq!(meta.uid(), user.uid.as_raw());
        }
        let hba = bed.pgdata_text("pg_hba.conf");
        assert_eq!(hba.lines().last(), Some("host\tall\t\tall\t\tall\t\tmd5"));
        assert_eq!(
            std::fs::read_link(pgdata.join("pg_dynshmem")).unwrap().to_str(),
            Some("/dev/shm/")
        );
        assert!(pgdata.join("neon.signal").is_file());
        assert!(!pgdata.join("standby.signal").exists());
        assert!(!pgdata.join("compute_ctl_temp_override.conf").exists());

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
