//! Clusters from before the superuser was called `cloud_admin` (05 §3.3, §21 no. 40).

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

async fn sql_as(compute: &Compute, user: &str, sql: &str) {
    let url = compute.connstr.replace("cloud_admin", user);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
}

/// Data with a single superuser, of this name.
async fn bed_of(server: compute_ctl::dev::servers::Server, superuser: &str) -> Bed {
    let mut bed = Bed::new(server).await;
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    sql_as(&compute, "cloud_admin", "CREATE ROLE helper SUPERUSER LOGIN").await;
    sql_as(&compute, "helper", &format!("ALTER ROLE cloud_admin RENAME TO {superuser}")).await;
    sql_as(&compute, superuser, "DROP ROLE helper").await;
    bed.take_data(compute).await;
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", None).database("store", "ann");
    bed
}

#[tokio::test]
async fn cloud_admin_is_made() {
    on_one_server(|server| async {
        let bed = bed_of(server, "zenith_admin").await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let admin = "SELECT rolsuper AND rolcanlogin AND pg_has_role(oid, 'zenith_admin', 'MEMBER') \
                     FROM pg_roles WHERE rolname = 'cloud_admin'";
        assert_eq!(compute.sql_text(admin).await, "t");
        let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'store'";
        assert_eq!(compute.sql_text(owner).await, "ann");
        compute.wait_for_log("Finished migration id=12").await;
        compute.assert_logged("created the superuser cloud_admin", 1).await;
        bed.take_data(compute).await;

        // The next start finds it.
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn no_role_can_make_it() {
    on_one_server(|server| async {
        let bed = bed_of(server, "somebody").await;
        let mut compute = bed.start();
        let error = compute.wait_for_failure().await;
        for part in [
            "broken cloud_admin credential",
            "user \"cloud_admin\" of --connstr",
            "user \"zenith_admin\"",
            "role \"cloud_admin\" does not exist",
            "role \"zenith_admin\" does not exist",
        ] {
            assert!(error.contains(part), "{error}");
        }
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}
