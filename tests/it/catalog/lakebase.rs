//! The additional steps of an apply in Lakebase mode (05 §22), at a start and on the running
//! compute.

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{NeonStub, on_every_server, on_one_server};

fn start(bed: &Bed, connstr: &str) -> Compute {
    let mut line = bed.base_args();
    let at = line.iter().position(|word| word == "--connstr").unwrap() + 1;
    line[at] = connstr.to_owned();
    line.extend(bed.config_args());
    line.extend(["--lakebase-mode", "true"].map(str::to_owned));
    line.extend(["--privileged-role-name", "databricks_superuser"].map(str::to_owned));
    Compute::spawn(bed, &line, &[])
}

async fn bed(server: Server) -> Bed {
    let mut bed = Bed::new(server).await;
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.typed("databricks.reader_statement_timeout", "7s", "string");
    bed
}

const ROLES: &str = "SELECT rolname, rolcanlogin, rolsuper, rolreplication, rolconfig, \
    pg_has_role(rolname, 'pg_monitor', 'MEMBER') FROM pg_roles \
    WHERE rolname LIKE 'databricks%' ORDER BY rolname";

const HELD: &str = "SELECT has_schema_privilege(m, 'neon', 'USAGE'), \
    has_table_privilege(m, 'public.health_check', 'UPDATE'), \
    has_function_privilege(m, 'pg_catalog.pg_ls_dir(text)', 'EXECUTE'), \
    has_table_privilege(m, 'neon.neon_perf_counters', 'SELECT'), \
    has_function_privilege(m, 'neon.get_perf_counters()', 'EXECUTE'), \
    has_table_privilege('pg_monitor', 'public.databricks_auth_metrics', 'SELECT') \
    FROM (SELECT 'databricks_monitor'::name) monitor (m)";

#[tokio::test]
async fn roles_grants_and_extension() {
    on_every_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        let mut bed = bed(stub.server.clone()).await;
        bed.spec.role("databricks_reader_12", None).role("databricks_reader_x", None);
        let mut compute = start(&bed, &bed.connstr());
        compute.wait_for("running").await;
        compute.wait_for_log("Finished migration id=12").await;
        let roles = |reader: &str| {
            [
                "databricks_control_plane|t|t|f|NULL|t".to_owned(),
                "databricks_gateway|t|f|f|NULL|f".to_owned(),
                "databricks_monitor|t|f|f|{statement_timeout=60s}|t".to_owned(),
                format!("databricks_reader_12|t|f|t|{reader}|t"),
                "databricks_reader_x|t|f|t|NULL|t".to_owned(),
                // Migrations made it a member of pg_monitor.
                "databricks_superuser|f|f|f|NULL|t".to_owned(),
            ]
        };
        // Readers that the spec lists come after the time-out of readers.
        assert_eq!(compute.rows(ROLES).await, roles("NULL"));
        assert_eq!(compute.rows(HELD).await, ["t|t|t|t|t|t"]);
        let made = "TABLE public.databricks_auth_made";
        assert_eq!(compute.rows(made).await, ["2min|cloud_admin"], "at a start only");
        let check = "SET ROLE databricks_monitor; SELECT public.health_check_write_succeeds()";
        assert_eq!(compute.rows(check).await, ["1"]);
        let session = compute.session_in("postgres").await;
        session.batch_execute("SET default_transaction_read_only = on").await.unwrap();
        let error = session.batch_execute("SELECT public.health_check_write_succeeds()").await;
        let error = error.unwrap_err().as_db_error().unwrap().message().to_owned();
        assert!(error.starts_with("[DATABRICKS_SMGR] health_check failed: [25006] "), "{error}");

        // A user has changed something; and again, with the options of a reconfiguration.
        compute.run("REVOKE USAGE ON SCHEMA neon FROM databricks_monitor").await;
        compute.apply(&bed).await;
        assert_eq!(compute.rows(ROLES).await, roles("{statement_timeout=7s}"));
        assert_eq!(compute.rows(HELD).await, ["t|t|t|t|t|t"]);
        assert_eq!(compute.rows(made).await, ["0|cloud_admin"]);
        let log = "statement_timeout of role databricks_reader_12 is 7s from now on";
        compute.wait_for_log(log).await;
        // Only the extension, which is created again.
        let line = "roles and databases are as the spec says, 3 statements";
        let before = compute.count_in_log(line);
        compute.apply(&bed).await;
        compute.wait_for_log_times(line, before + 1).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The operator's own limit instead of two minutes, to keep the test short.
#[tokio::test]
async fn statements_that_meet_the_limit_are_counted() {
    on_one_server(|server| async {
        let mut bed = bed(server).await;
        const COUNTER: &str = "pg_cctl_configure_statement_timeout_errors_total";
        let connstr = format!("{}?options=-c%20statement_timeout%3D700ms", bed.connstr());
        let mut compute = start(&bed, &connstr);
        compute.wait_for("running").await;
        assert_eq!(compute.metric(COUNTER).await, 0);
        let session = compute.session_in("postgres").await;
        session.batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE").await.unwrap();
        bed.spec.role("ann", None);
        let error = compute.apply_fails(&bed).await;
        assert!(error.contains("SQLSTATE 57014"), "{error}");
        assert_eq!(compute.metric(COUNTER).await, 1);
        let (_, status) = compute.get("/status").await;
        assert_eq!(status["extra"]["apply_report"]["timed_out"], json!(1));
        session.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
