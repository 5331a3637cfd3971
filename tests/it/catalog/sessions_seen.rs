//! The settings of the compute's sessions as seen from within: the scripts of the `neon` extension
//! record the settings they run with (05 §3).

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{NeonStub, on_one_server};

const SEEN: &str = "(SELECT name, current_setting(name, true) AS value FROM unnest(ARRAY[
    'application_name', 'role', 'neon.forward_ddl', 'pgaudit.log', 'log_statement',
    'default_transaction_read_only', 'statement_timeout', 'lock_timeout', 'synchronous_commit',
    'session_replication_role', 'client_encoding']) AS name)";

async fn seen(compute: &Compute, table: &str, name: &str) -> String {
    compute.sql_text(&format!("SELECT value FROM neon.{table} WHERE name = '{name}'")).await
}

#[tokio::test]
async fn from_a_creation_in_an_apply_and_from_an_update_after_it() {
    on_one_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        stub.write_creation("1.5", &format!("CREATE TABLE neon.at_creation AS {SEEN};"));
        stub.write_update("1.5", "1.6", &format!("CREATE TABLE neon.at_update AS {SEEN};"));
        stub.offer("1.5");
        let mut bed = Bed::new(stub.server.clone()).await;
        bed.spec.set("log_statement", "all");
        bed.spec.skip_pg_catalog_updates = false;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.wait_for_log("the neon extension is up to date").await;
        let settings = "ALTER DATABASE postgres SET neon.forward_ddl = on; \
            ALTER DATABASE postgres SET default_transaction_read_only = on; \
            ALTER DATABASE postgres SET pgaudit.log = 'all'";
        compute.run(settings).await;
        let hidden = "CREATE EXTENSION neon";
        assert_eq!(compute.count_in_log(hidden), 0, "{}", compute.log());
        bed.take_data(compute).await;

        stub.offer("1.6");
        bed.spec.skip_pg_catalog_updates = true;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.wait_for_log("the neon extension is up to date").await;
        for (name, value) in [
            ("role", "cloud_admin"),
            ("pgaudit.log", "none"),
            ("default_transaction_read_only", "off"),
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("synchronous_commit", "on"),
            ("session_replication_role", "replica"),
            ("client_encoding", "SQL_ASCII"),
        ] {
            for table in ["at_creation", "at_update"] {
                assert_eq!(seen(&compute, table, name).await, value, "{table} {name}");
            }
        }
        for (name, at_creation, at_update) in [
            ("application_name", "compute_ctl:apply_config", "compute_ctl:post_apply_config"),
            // Only changes that the control plane ordered are not reported back to it.
            ("neon.forward_ddl", "false", "on"),
            ("log_statement", "none", "all"),
        ] {
            assert_eq!(seen(&compute, "at_creation", name).await, at_creation, "{name}");
            assert_eq!(seen(&compute, "at_update", name).await, at_update, "{name}");
        }
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
