//! Migrations (05 §9, §13, §14.1, §21 nos 1, 2 and 24 to 27).

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{NeonStub, on_every_server, on_one_server};

const ID: &str = "SELECT string_agg(key || ':' || id, ' ') FROM neon_migration.migration_id";

async fn bed(server: Server) -> Bed {
    let mut bed = Bed::new(server).await;
    bed.spec.skip_pg_catalog_updates = false;
    bed
}

async fn start(bed: &Bed) -> Compute {
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    compute
}

/// A cluster that has seen one start, changed by SQL.
async fn changed(server: Server, sql: &str) -> Bed {
    let bed = bed(server).await;
    let compute = start(&bed).await;
    compute.wait_for_log("Finished migration id=12").await;
    compute.sql().await.batch_execute(sql).await.unwrap();
    bed.take_data(compute).await;
    bed
}

/// Waits until the background work of a start is over; on a server without the extension its last
/// step has nothing to do.
async fn background_over(compute: &mut Compute) {
    compute.wait_for_log("neon is not installed").await;
}

async fn failures(compute: &Compute) -> Vec<String> {
    let (_, text) = compute.get("/metrics").await;
    let lines = text.as_str().unwrap().lines();
    let lines = lines.filter(|line| line.starts_with("compute_ctl_db_migration_failed_total"));
    lines.map(str::to_owned).collect()
}

async fn end(mut compute: Compute, bed: &Bed) {
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_nothing_left(bed);
}

/// Attributes, memberships (with A for the admin option) and rights of 05 §9.
async fn shape(compute: &Compute, role: &str) -> String {
    compute
        .sql_text(&format!(
            "SELECT concat_ws(' ', rolsuper, rolcanlogin, rolinherit, rolcreaterole, rolcreatedb, \
                    rolreplication, rolbypassrls, rolconnlimit, rolpassword IS NULL, \
                (SELECT string_agg(roleid::regrole || CASE WHEN admin_option THEN '/A' ELSE '' END, \
                     ' ' ORDER BY roleid::regrole::text) FROM pg_auth_members WHERE member = r.oid), \
                (SELECT string_agg(p.proname, ' ' ORDER BY p.proname) \
                 FROM pg_proc p, aclexplode(p.proacl) a WHERE a.grantee = r.oid)) \
             FROM pg_authid r WHERE rolname = '{role}'"
        ))
        .await
}

fn expected_shape(major: u16) -> String {
    let newer = major >= 16;
    [
        "f f t t t t t -1 t",
        if newer { "pg_create_subscription" } else { "" },
        "pg_monitor/A pg_read_all_data pg_signal_backend/A pg_write_all_data",
        if newer { "pg_export_snapshot pg_log_standby_snapshot" } else { "" },
        "pg_show_replication_origin_status",
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join(" ")
}

#[tokio::test]
async fn a_fresh_cluster_gets_them_all() {
    on_every_server(|server| async {
        let major = server.major;
        let bed = bed(server).await;
        let mut compute = start(&bed).await;
        background_over(&mut compute).await;
        assert_eq!(compute.sql_text(ID).await, "0:12");
        assert_eq!(shape(&compute, "neon_superuser").await, expected_shape(major));
        let acl = "SELECT nspacl FROM pg_namespace WHERE nspname = 'neon_migration'";
        assert_eq!(compute.sql_text(acl).await, "{cloud_admin=UC/cloud_admin}");
        let column = "SELECT string_agg(concat_ws(' ', column_name, data_type, is_nullable, \
                      column_default), ', ' ORDER BY ordinal_position) \
                      FROM information_schema.columns WHERE table_schema = 'neon_migration'";
        assert_eq!(compute.sql_text(column).await, "key integer NO, id bigint NO 0");
        let log = compute.settled_log().await;
        for (text, count) in [
            ("Running migration id=", 7),
            ("Skipping migration id=", 5),
            ("Finished migration", 12),
        ] {
            assert_eq!(log.matches(text).count(), count, "{text}\n{log}");
        }
        assert_eq!(failures(&compute).await, [""; 0]);
        end(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn the_privileged_role_may_have_another_name() {
    on_one_server(|server| async {
        let major = server.major;
        let bed = bed(server).await;
        let mut args = bed.config_args();
        args.extend(["--privileged-role-name".to_owned(), "my_superuser".to_owned()]);
        let mut compute = bed.start_with(&args.iter().map(String::as_str).collect::<Vec<_>>());
        bed.wait_running(&mut compute).await;
        background_over(&mut compute).await;
        assert_eq!(shape(&compute, "my_superuser").await, expected_shape(major));
        let other = "SELECT count(*) FROM pg_roles WHERE rolname = 'neon_superuser'";
        assert_eq!(compute.sql_text(other).await, "0");
        end(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn only_what_is_left_to_do_is_done() {
    on_one_server(|server| async move {
        let revoke = "REVOKE pg_signal_backend FROM neon_superuser; \
                      REVOKE pg_monitor FROM neon_superuser;";
        for (id, finished) in [(11, vec![12]), (12, vec![]), (99, vec![])] {
            let sql = format!("{revoke} UPDATE neon_migration.migration_id SET id = {id}");
            let bed = changed(server.clone(), &sql).await;
            let mut compute = start(&bed).await;
            background_over(&mut compute).await;
            let log = compute.settled_log().await;
            let seen: Vec<u32> = (1..=12)
                .filter(|n| log.contains(&format!("Finished migration id={n}\n")))
                .collect();
            assert_eq!(seen, finished, "{log}");
            // Tenants can write such a number (`pg_write_all_data`).
            let warned = log.contains("says that 99 migrations were done");
            assert_eq!(warned, id == 99, "{log}");
            assert_eq!(compute.sql_text(ID).await, format!("0:{}", id.max(12)));
            let members = "SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members \
                           WHERE member = 'neon_superuser'::regrole AND admin_option";
            let wanted = if id == 11 { "pg_signal_backend" } else { "NULL" };
            assert_eq!(compute.sql_text(members).await, wanted);
            assert_eq!(failures(&compute).await, [""; 0]);
            end(compute, &bed).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_impossible_number_is_reported_and_left() {
    on_one_server(|server| async move {
        for (sql, id) in [
            ("UPDATE neon_migration.migration_id SET id = -1", "0:-1"),
            ("INSERT INTO neon_migration.migration_id VALUES (1, 3)", "0:12 1:3"),
        ] {
            let bed = changed(server.clone(), sql).await;
            let mut compute = start(&bed).await;
            compute.wait_for_log("could not find out which migrations were done").await;
            background_over(&mut compute).await;
            assert_eq!(compute.sql_text(ID).await, id);
            assert_eq!(compute.count_in_log("Running migration"), 0);
            end(compute, &bed).await;
        }
    })
    .await;
}

/// An older release, or any user, may have changed the place where the number is kept in any way.
#[tokio::test]
async fn the_bookkeeping_is_repaired() {
    on_one_server(|server| async {
        let sql = "CREATE ROLE stranger; ALTER SCHEMA neon_migration OWNER TO stranger; \
                   GRANT ALL ON SCHEMA neon_migration TO PUBLIC; \
                   DELETE FROM neon_migration.migration_id";
        let bed = changed(server, sql).await;
        let mut compute = start(&bed).await;
        background_over(&mut compute).await;
        assert_eq!(compute.sql_text(ID).await, "0:12");
        compute.assert_logged("Finished migration", 12).await;
        let schema = "SELECT concat_ws(' ', nspowner::regrole, nspacl) FROM pg_namespace \
                      WHERE nspname = 'neon_migration'";
        let mended = "cloud_admin {cloud_admin=UC/cloud_admin}";
        assert_eq!(compute.sql_text(schema).await, mended);
        end(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn inheritance_and_row_security() {
    on_every_server(|server| async {
        let sql = "CREATE ROLE stranger BYPASSRLS; \
                   CREATE ROLE \"mem'ber \\ $x$\" NOINHERIT BYPASSRLS IN ROLE neon_superuser; \
                   ALTER ROLE neon_superuser NOBYPASSRLS; \
                   UPDATE neon_migration.migration_id SET id = 0";
        let bed = changed(server, sql).await;
        let mut compute = start(&bed).await;
        background_over(&mut compute).await;
        let bypass = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles \
                      WHERE rolbypassrls";
        assert_eq!(compute.sql_text(bypass).await, "cloud_admin mem'ber \\ $x$ neon_superuser");
        let strict = "SELECT count(*) FROM pg_roles WHERE NOT rolinherit";
        assert_eq!(compute.sql_text(strict).await, "0");
        assert_eq!(compute.sql_text(ID).await, "0:12");
        end(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_counted_and_the_next_start_goes_on() {
    on_every_server(|server| async {
        let major = server.major;
        let sql = "CREATE FUNCTION public.no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                       RAISE 'no grants today';
                   END $$;
                   UPDATE neon_migration.migration_id SET id = 0;
                   CREATE EVENT TRIGGER no ON ddl_command_start WHEN TAG IN ('GRANT')
                       EXECUTE FUNCTION public.no();
                   ALTER EVENT TRIGGER no ENABLE ALWAYS";
        let bed = changed(server, sql).await;
        let mut compute = start(&bed).await;
        background_over(&mut compute).await;
        let failed = if major >= 16 { 10 } else { 11 };
        let line = format!("Failed to run migration id={failed}: ERROR: no grants today");
        compute.assert_logged(&line, 1).await;
        assert_eq!(compute.sql_text(ID).await, format!("0:{}", failed - 1));
        let series =
            format!("compute_ctl_db_migration_failed_total{{migration_id=\"{failed}\"}} 1");
        assert_eq!(failures(&compute).await, [series]);
        assert_eq!(compute.get("/status").await.1["status"], "running");
        compute.sql().await.batch_execute("DROP EVENT TRIGGER no").await.unwrap();
        bed.take_data(compute).await;

        let mut compute = start(&bed).await;
        background_over(&mut compute).await;
        assert_eq!(compute.sql_text(ID).await, "0:12");
        assert_eq!(failures(&compute).await, [""; 0]);
        end(compute, &bed).await;
    })
    .await;
}

#[tokio::test]
async fn without_catalog_updates_nothing_but_the_extension_is_touched() {
    on_one_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        let bed = Bed::new(stub.server.clone()).await;
        let mut compute = start(&bed).await;
        background_over(&mut compute).await;
        let made = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = 'neon_superuser') \
                    + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'neon%')";
        assert_eq!(compute.sql_text(made).await, "0");
        if bed.server_has_neon() {
            return end(compute, &bed).await;
        }
        let old = "CREATE SCHEMA neon; CREATE EXTENSION neon SCHEMA neon VERSION '1.5'";
        compute.sql().await.batch_execute(old).await.unwrap();
        bed.take_data(compute).await;

        let compute = start(&bed).await;
        compute.wait_for_log("the neon extension is up to date").await;
        let version = "SELECT extversion FROM pg_extension WHERE extname = 'neon'";
        assert_eq!(compute.sql_text(version).await, "1.6");
        assert_eq!(compute.sql_text(made).await, "1");
        end(compute, &bed).await;
    })
    .await;
}

/// As the original's test suite does (05 §13.2): fail each migration, then continue without the
/// fault.
#[cfg(feature = "testing")]
mod failpoint {
    use super::*;

    #[tokio::test]
    async fn each_number_fails_once() {
        on_every_server(|server| async {
            let major = server.major;
            let bed = bed(server).await;
            for id in 1..=12 {
                let points = format!("compute-migration=return({id})");
                let mut compute = bed.start_with_env(&[("FAILPOINTS", &points)]);
                bed.wait_running(&mut compute).await;
                background_over(&mut compute).await;
                let series =
                    format!("compute_ctl_db_migration_failed_total{{migration_id=\"{id}\"}} 1");
                assert_eq!(failures(&compute).await, [series]);
                assert_eq!(compute.sql_text(ID).await, format!("0:{}", id - 1));
                bed.take_data(compute).await;
            }
            let mut compute = start(&bed).await;
            background_over(&mut compute).await;
            assert_eq!(compute.sql_text(ID).await, "0:12");
            assert_eq!(shape(&compute, "neon_superuser").await, expected_shape(major));
            end(compute, &bed).await;
        })
        .await;
    }

    #[tokio::test]
    async fn malformed_failpoints_end_the_program() {
        crate::support::server::on_one_server(|server| async {
            let bed = bed(server).await;
            let mut compute = bed.start_with_env(&[("FAILPOINTS", "compute-migration")]);
            assert_eq!(compute.wait_exit().await.code(), Some(1));
            compute.wait_for_log("name=actions").await;
            assert_nothing_left(&bed);
        })
        .await;
    }
}
