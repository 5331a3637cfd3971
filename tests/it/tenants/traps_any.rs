//! Whatever a tenant creates in databases of theirs, under any name that the compute's SQL
//! mentions: no route, no background work and no start makes a role a superuser.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, HERS, running_for_catalog};
use crate::support::server::on_one_server;

/// Statements per round, and rounds on one compute. The next round keeps the objects of the last
/// one.
const STATEMENTS: usize = 40;
const ROUNDS: usize = 10;
/// No new round begins after this.
const ENOUGH: Duration = Duration::from_secs(15);

const SCHEMAS: [&str; 6] = ["\"''\"", "public", "traps", "neon", "neon_migration", "stats"];
const RELATIONS: [&str; 12] = [
    "pg_stat_statements",
    "health_check",
    "migration_id",
    "drop_subscriptions_done",
    "drop_subscriptions_todo",
    "databricks_auth_metrics",
    "neon_perf_counters",
    "pg_extension",
    "pg_database",
    "pg_authid",
    "pg_stat_activity",
    "counts",
];
const FUNCTIONS: [&str; 14] = [
    "format",
    "quote_ident",
    "count",
    "sum",
    "max",
    "current_setting",
    "set_config",
    "to_regclass",
    "now",
    "row_to_json",
    "unnest",
    "health_check_write_succeeds",
    "get_perf_counters",
    "string_agg",
];
const OPERATORS: [&str; 9] = ["=", "<>", "<", ">=", "~~", "!~~", "~", "||", "*"];
const TYPES: [&str; 10] = [
    "oid",
    "int4",
    "int8",
    "text",
    "name",
    "\"char\"",
    "bool",
    "timestamptz",
    "regclass",
    "text[]",
];
const COLUMNS: &str = "id int4, key int4, updated_at timestamptz, timeline_id text, \
    subscriptions oid[], mean_exec_time float8, mean_plan_time float8, userid oid, query text";

fn pick(of: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(of)
}

/// A relation with its schema.
fn relation() -> impl Strategy<Value = String> {
    (pick(&SCHEMAS), pick(&RELATIONS)).prop_map(|(schema, name)| format!("{schema}.{name}"))
}

fn function() -> impl Strategy<Value = String> {
    let arguments = prop::collection::vec(pick(&TYPES), 0..4);
    (pick(&SCHEMAS), pick(&FUNCTIONS), arguments, pick(&TYPES)).prop_map(
        |(schema, name, arguments, result)| {
            let arguments = arguments.join(", ");
            format!(
                "CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql \
                 AS $f$ BEGIN PERFORM traps.spring('{name}'); RETURN NULL; END $f$"
            )
        },
    )
}

fn operator() -> impl Strategy<Value = String> {
    let (left, right) = (pick(&TYPES), pick(&TYPES));
    (pick(&SCHEMAS), pick(&OPERATORS), left, right).prop_map(|(schema, name, left, right)| {
        format!(
            "CREATE OR REPLACE FUNCTION {schema}.o({left}, {right}) RETURNS bool \
             LANGUAGE plpgsql AS $f$ BEGIN PERFORM traps.spring('operator'); RETURN true; END $f$; \
             CREATE OPERATOR {schema}.{name} (LEFTARG = {left}, RIGHTARG = {right}, \
                 FUNCTION = {schema}.o)"
        )
    })
}

/// A relation of some kind, or what hangs on one.
fn about_relation() -> impl Strategy<Value = String> {
    const TEMPLATES: [&str; 14] = [
        "CREATE TABLE @R@ (@C@)",
        "CREATE TABLE @R@ (@C@, x bool DEFAULT traps.spring('default'), PRIMARY KEY (id))",
        "CREATE TABLE @R@ (@C@, CHECK (traps.spring('check')), UNIQUE (id))",
        "CREATE VIEW @R@ AS SELECT CASE WHEN traps.spring('view') THEN 1 END::float8 AS \
         mean_exec_time, 1::float8 AS mean_plan_time, 0::oid AS userid, 0 AS id, 'x' AS timeline_id",
        "CREATE SEQUENCE @R@",
        "CREATE TYPE @R@ AS (@C@)",
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON @R@ FOR EACH STATEMENT \
         EXECUTE FUNCTION traps.fire()",
        "CREATE TRIGGER r BEFORE INSERT OR UPDATE ON @R@ FOR EACH ROW EXECUTE FUNCTION traps.fire()",
        "CREATE RULE r AS ON INSERT TO @R@ DO ALSO SELECT traps.spring('rule')",
        "ALTER TABLE @R@ ENABLE ALWAYS TRIGGER t",
        "CREATE INDEX ON @R@ ((traps.fixed('index' || id)))",
        "DROP TABLE @R@ CASCADE",
        "DROP VIEW @R@ CASCADE",
        "GRANT ALL ON @R@ TO PUBLIC",
    ];
    (pick(&TEMPLATES), relation())
        .prop_map(|(template, name)| template.replace("@R@", &name).replace("@C@", COLUMNS))
}

fn about_schema() -> impl Strategy<Value = String> {
    const TEMPLATES: [&str; 8] = [
        "CREATE SCHEMA @S@",
        "GRANT ALL ON SCHEMA @S@ TO PUBLIC",
        "DROP SCHEMA @S@",
        "ALTER SCHEMA public RENAME TO stats",
        "CREATE EXTENSION citext SCHEMA @S@",
        "CREATE DOMAIN @S@.text AS pg_catalog.text CHECK (traps.spring('domain'))",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA @S@ GRANT ALL ON TABLES TO PUBLIC",
        "ALTER DATABASE @D@ SET search_path = \"''\", @S@, pg_catalog",
    ];
    (pick(&TEMPLATES), pick(&SCHEMAS)).prop_map(|(template, name)| template.replace("@S@", name))
}

/// Statements, each with its database.
fn statements() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let statement = prop_oneof![function(), operator(), about_relation(), about_schema()];
    let one = (pick(&HERS), statement)
        .prop_map(|(database, sql)| (database, sql.replace("@D@", database)));
    prop::collection::vec(one, STATEMENTS)
}

async fn every_route(compute: &Compute) {
    for path in
        ["/status", "/metrics", "/insights", "/dbs_and_roles", "/database_schema?database=tdb"]
    {
        compute.get(path).await;
    }
    compute.post("/check_writability", None).await;
    for database in HERS {
        for version in ["1.5", "1.6"] {
            let body = json!({"extension": "citext", "database": database, "version": version});
            compute.post_internal("/extensions", &body).await;
        }
        for schema in SCHEMAS.map(|schema| schema.trim_matches('"')) {
            let body = json!({
                "database": database, "schema": schema, "privileges": ["USAGE"], "role": "web",
            });
            compute.post_internal("/grants", &body).await;
        }
    }
}

/// Inputs are not shrunk; the statements are printed. Many of them fail, which is fine.
#[tokio::test]
async fn no_ddl_of_a_tenant_makes_a_superuser() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.belongs_to_ann();
        bed.spec.role("web", None);
        let compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        for database in HERS {
            compute.lay_spring(database).await;
        }
        let powers = compute.powers().await;
        let (mut runner, begun) = (TestRunner::default(), Instant::now());
        let mut rounds = 0;
        while rounds < ROUNDS && begun.elapsed() < ENOUGH {
            rounds += 1;
            let statements = statements().new_tree(&mut runner).unwrap().current();
            let mut done = 0;
            for database in HERS {
                let session = compute.session_of("ann", database).await;
                session.batch_execute("SET search_path = pg_catalog").await.unwrap();
                for (_, sql) in statements.iter().filter(|(it, _)| *it == database) {
                    println!("{database}: {sql}");
                    done += usize::from(session.batch_execute(sql).await.is_ok());
                }
            }
            println!("--- {done} of {} statements were done", statements.len());
            every_route(&compute).await;
            compute.has_only(&powers).await;
            compute.nothing_sprang();
        }
        // Whether the start was refused or not, another one follows on the same data.
        compute.configure(&bed).await;
        compute.monitor_has_looked().await;
        compute.has_only(&powers).await;
        compute.nothing_sprang();
        bed.take_data(compute).await;
        let mut compute = bed.start();
        let (status, _) = compute.wait_for_any(&["running", "failed"]).await;
        if status == "running" {
            compute.wait_for_log("[NEON_EXT_STAT]").await;
            every_route(&compute).await;
            compute.ends_with(&powers).await;
        } else {
            compute.dismiss().await;
            compute.nothing_sprang();
        }
        assert_nothing_left(&bed);
    })
    .await;
}
