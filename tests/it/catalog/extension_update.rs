//! The `neon` extension is updated by a slow script that changes a role, while another task of the
//! compute changes that role too: neither fails, and the start does not wait (05 §14.1).

use std::time::{Duration, Instant};

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{NeonStub, on_one_server};

const MD5: &str = "0123456789abcdef0123456789abcdef";
/// The lock that a script or a trigger waits for until the test releases it.
const WAIT: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7)";
const VERSION: &str = "SELECT extversion FROM pg_extension WHERE extname = 'neon'";
const ANN: &str = "SELECT concat_ws(' ', rolpassword, rolconnlimit) FROM pg_authid \
    WHERE rolname = 'ann'";

/// Data in which `sql` was run, and in which [`WAIT`] waits.
async fn bed(server: Server, updates: bool, sql: &str) -> Bed {
    let mut bed = Bed::new(server).await;
    bed.allow_holding();
    bed.spec.skip_pg_catalog_updates = !updates;
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    // The background work of this start is over.
    let last = if updates { "extension is up to date" } else { "extension neon is not installed" };
    compute.wait_for_log(last).await;
    compute.run(sql).await;
    compute.hold_in("postgres", WAIT).await;
    bed.take_data(compute).await;
    bed.spec.skip_pg_catalog_updates = false;
    bed
}

/// How long the test checks that no apply begins before its turn.
const A_WHILE: Duration = Duration::from_secs(1);

async fn no_session_applies(compute: &Compute) {
    let query = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'compute_ctl:apply_config'";
    let end = Instant::now() + A_WHILE;
    while Instant::now() < end {
        assert_eq!(compute.sql_text(query).await, "0", "an apply has begun");
    }
}

/// A `/configure` that changes the role and creates another role and a database. It waits for its
/// turn until the others are released.
async fn configure_during_it(bed: &mut Bed, compute: &Compute) {
    bed.spec.role("ann", Some(MD5)).role("bob", None).database("store", "bob");
    let release = async {
        let configuring = || async { compute.get("/status").await.1["status"] == "configuration" };
        until("the configuration has begun", configuring).await;
        no_session_applies(compute).await;
        compute.release_in("postgres").await;
    };
    tokio::join!(compute.apply(bed), release);
}

async fn both_are_done(bed: &Bed, compute: &mut Compute, version: &str) {
    compute.wait_for_log("the neon extension is up to date").await;
    assert_eq!(compute.sql_text(VERSION).await, version);
    assert_eq!(compute.sql_text(ANN).await, format!("md5{MD5} 5"));
    let store = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'store'";
    assert_eq!(compute.sql_text(store).await, "bob");
    for sign in ["ERROR", "concurrently"] {
        assert_eq!(compute.count_in_log(sign), 0, "{}", compute.log());
    }
    compute.apply_changes_nothing(bed).await;
}

#[tokio::test]
async fn a_configuration_comes_during_the_update() {
    on_one_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        stub.write_update("1.5", "1.6", &format!("ALTER ROLE ann CONNECTION LIMIT 5; {WAIT};"));
        let sql = "CREATE ROLE ann; CREATE SCHEMA neon; \
                   CREATE EXTENSION neon SCHEMA neon VERSION '1.5'";
        let mut bed = bed(stub.server.clone(), false, sql).await;
        // The update is the only change that this start makes to the catalog.
        bed.spec.skip_pg_catalog_updates = true;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.wait_for_lock_waits("compute_ctl:post_apply_config", 1).await;
        assert_eq!(compute.sql_text(VERSION).await, "1.5", "the start did not wait for it");
        bed.spec.skip_pg_catalog_updates = false;
        configure_during_it(&mut bed, &compute).await;
        both_are_done(&bed, &mut compute, "1.6").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The package becomes newer while migrations run, so the apply updates the extension between two
/// of them.
#[tokio::test]
async fn an_apply_updates_it_between_migrations() {
    on_one_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        let sql = format!(
            "CREATE ROLE ann;
             CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF current_setting('application_name') = 'compute_ctl:migrations' THEN
                     ALTER ROLE ann CONNECTION LIMIT 5;
                     PERFORM FROM ({WAIT}) w;
                 END IF;
             END $$;
             CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('GRANT')
                 EXECUTE FUNCTION public.slow();
             ALTER EVENT TRIGGER slow ENABLE ALWAYS;
             UPDATE neon_migration.migration_id SET id = 0"
        );
        let mut bed = bed(stub.server.clone(), true, &sql).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.wait_for_lock_waits("compute_ctl:migrations", 1).await;
        stub.write_update("1.6", "1.7", "ALTER ROLE ann CREATEDB;");
        stub.offer("1.7");
        configure_during_it(&mut bed, &compute).await;
        compute.wait_for_log("Finished migration id=12").await;
        both_are_done(&bed, &mut compute, "1.7").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
