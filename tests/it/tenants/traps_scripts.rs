//! Code of tenants that statements of the compute could start: triggers on tables that extension
//! scripts and migrations write, functions that event triggers call, expressions in objects of a
//! deleted role.

use std::fs;

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, HERS, delta, running_for_catalog};
use crate::support::server::{NeonStub, Relocated, on_every_server, on_one_server};

/// An extension with one table, which its update writes to.
fn write_extension(place: &Relocated) {
    let write = |name: &str, text: &str| fs::write(place.extensions.join(name), text).unwrap();
    write("counts.control", "default_version = '1.0'\nrelocatable = true\n");
    write("counts--1.0.sql", "CREATE TABLE counts (n int);");
    write("counts--1.0--2.0.sql", "INSERT INTO counts VALUES (1); UPDATE counts SET n = n + 1;");
}

async fn install(compute: &Compute, version: &str) {
    let body = json!({"extension": "counts", "database": "tdb", "version": version});
    let (code, answer) = compute.post_internal("/extensions", &body).await;
    assert_eq!(code, 201, "{answer}");
}

const TRIGGER: &str = "FOR EACH ROW EXECUTE FUNCTION traps.fire()";

#[tokio::test]
async fn triggers_on_a_table_of_an_extension() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(place) = bed.relocate_server().await else { return };
        write_extension(&place);
        bed.belongs_to_ann();
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        compute.lay_spring("tdb").await;
        let powers = compute.powers().await;
        install(&compute, "1.0").await;
        compute.run_in("tdb", "GRANT TRIGGER ON public.counts TO ann").await;
        let create = format!("CREATE TRIGGER t BEFORE INSERT OR UPDATE ON public.counts {TRIGGER}");
        compute.hers("tdb", &create).await;
        install(&compute, "2.0").await;
        compute.has_only(&powers).await;
        assert_eq!(compute.rows_in("tdb", "SELECT n FROM public.counts").await, ["2"]);
        compute.ends_with(&powers).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Default privileges grant TRIGGER on objects that the compute's sessions create to the privileged
/// role; scripts of later versions would fire the triggers there.
#[tokio::test]
async fn no_trigger_privilege_on_a_table_of_an_extension() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let Some(place) = bed.relocate_server().await else { return };
        write_extension(&place);
        bed.belongs_to_ann();
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        install(&compute, "1.0").await;
        let may = "SELECT has_table_privilege('ann', 'public.counts', 'TRIGGER')";
        assert_eq!(compute.rows_in("tdb", may).await, ["f"]);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Only superusers create event triggers; the function that one calls may belong to a tenant.
#[tokio::test]
async fn event_triggers_that_call_a_function_of_a_tenant() {
    on_every_server(|server| async {
        let major = server.major;
        let mut bed = Bed::new(server).await;
        bed.belongs_to_ann();
        bed.spec.role("g", None).role("web", None);
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        compute.lay_spring("tdb").await;
        let mut events = vec!["ddl_command_start", "ddl_command_end", "sql_drop"];
        if major >= 17 {
            events.push("login");
        }
        let mut sql = "CREATE TABLE public.of_g (); ALTER TABLE public.of_g OWNER TO g; \
            GRANT SELECT ON public.of_g TO ann; "
            .to_owned();
        for event in events {
            let made = format!(
                "CREATE EVENT TRIGGER on_{event} ON {event} EXECUTE FUNCTION traps.notice(); "
            );
            // In separate transactions the first would see the others being created.
            sql.push_str(&made);
        }
        let sql = format!("SET session_replication_role = replica; BEGIN; {sql} COMMIT");
        compute.run_in("tdb", &sql).await;
        let powers = compute.powers().await;
        for version in ["1.5", "1.6"] {
            let body = json!({"extension": "citext", "database": "tdb", "version": version});
            let (code, answer) = compute.post_internal("/extensions", &body).await;
            assert_eq!(code, 201, "{answer}");
        }
        let body = json!({
            "database": "tdb", "schema": "public", "privileges": ["USAGE"], "role": "web",
        });
        let (code, answer) = compute.post_internal("/grants", &body).await;
        assert_eq!(code, 201, "{answer}");
        bed.spec.roles.retain(|role| role["name"] != "g");
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        compute.apply(&bed).await;
        compute.get("/database_schema?database=tdb").await;
        compute.ends_with(&powers).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres checks and computes the expressions as the new owner, which is a superuser.
#[tokio::test]
async fn expressions_of_what_a_deleted_role_owns() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.belongs_to_ann();
        bed.spec.role("g", None);
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        let of_g = "CREATE DOMAIN traps.d AS int CHECK (traps.spring('a domain')); \
            CREATE TABLE traps.t (a traps.d DEFAULT 1, b bool DEFAULT traps.spring('a default'), \
                c bool GENERATED ALWAYS AS (traps.fixed('generated')) STORED, \
                CHECK (traps.spring('a check'))); \
            CREATE INDEX ON traps.t ((traps.fixed('an index' || a::text))); \
            INSERT INTO traps.t (a) VALUES (1), (2); \
            CREATE MATERIALIZED VIEW traps.m AS SELECT * FROM traps.t WHERE traps.spring('a view'); \
            CREATE RULE r AS ON UPDATE TO traps.t DO ALSO SELECT traps.spring('a rule'); \
            ALTER TABLE traps.t ENABLE ROW LEVEL SECURITY; \
            CREATE POLICY p ON traps.t USING (traps.spring('a policy')); \
            GRANT ALL ON traps.t, traps.m TO ann WITH GRANT OPTION; \
            ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO ann";
        for database in HERS {
            compute.lay_spring(database).await;
            compute.hers(database, "GRANT CREATE ON SCHEMA traps TO g").await;
            let session = compute.session_of("g", database).await;
            session.batch_execute(of_g).await.unwrap();
        }
        let powers = compute.powers().await;
        bed.spec.roles.retain(|role| role["name"] != "g");
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        compute.apply(&bed).await;
        let gone = compute.rows_in("template1", "SELECT 1 FROM pg_roles WHERE rolname = 'g'").await;
        assert!(gone.is_empty());
        compute.get("/database_schema?database=tdb").await;
        compute.ends_with(&powers).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The last migration of an older cluster, and an update of the extension, write tables on which
/// `ann` was allowed to create triggers.
#[tokio::test]
async fn triggers_on_tables_of_migrations_and_of_the_neon_extension() {
    on_every_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        stub.write_creation("1.5", "CREATE TABLE kept (n int); GRANT ALL ON kept TO PUBLIC;");
        stub.write_update("1.5", "1.6", "INSERT INTO kept VALUES (1);");
        stub.offer("1.5");
        let mut bed = Bed::new(stub.server.clone()).await;
        bed.belongs_to_ann();
        bed.spec.skip_pg_catalog_updates = false;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.wait_for_log("Finished migration id=12").await;
        compute.wait_for_log("extension is up to date").await;
        compute.lay_spring("postgres").await;
        compute
            .run(
                "GRANT USAGE ON SCHEMA neon, neon_migration TO ann; \
                 GRANT ALL ON neon_migration.migration_id, neon.kept TO ann; \
                 UPDATE neon_migration.migration_id SET id = 11",
            )
            .await;
        for table in ["neon_migration.migration_id", "neon.kept"] {
            let create = format!("CREATE TRIGGER t BEFORE INSERT OR UPDATE ON {table} {TRIGGER}");
            compute.hers("postgres", &create).await;
        }
        let powers = compute.powers().await;
        stub.offer("1.6");
        bed.take_data(compute).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        // The script runs without triggers; the compute does not write to its own table if it has
        // one.
        compute.wait_for_log("neon_migration.migration_id is not used: it has a trigger").await;
        compute.wait_for_log("extension is up to date").await;
        assert_eq!(compute.rows("SELECT n FROM neon.kept").await, ["1"]);
        compute.apply(&bed).await;
        compute.ends_with(&powers).await;
        assert_nothing_left(&bed);
    })
    .await;
}
