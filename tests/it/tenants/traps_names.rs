//! Objects of a tenant that are named like those of Postgres are never used in their place:
//! operators and functions with closer argument types, views, types, schemas that a search path
//! could name.

use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, HERS, delta, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

const COLLECTED: &str = "[NEON_EXT_STAT] ";

/// Every request that reads a running compute, for both databases.
async fn every_route(compute: &mut Compute) {
    for path in ["/status", "/metrics", "/insights", "/dbs_and_roles"] {
        let (code, body) = compute.get(path).await;
        assert_eq!(code, 200, "{path}: {body}");
    }
    let (code, body) = compute.post("/check_writability", None).await;
    assert_eq!((code.as_u16(), body), (200, json!(true)));
    for database in HERS {
        // Not every server has a pg_dump.
        let (code, body) = compute.get(&format!("/database_schema?database={database}")).await;
        assert!(code == 200 || body["error"] == "failed to execute pg_dump", "{body}");
        compute.run_in(database, "DROP EXTENSION IF EXISTS citext").await;
        for version in ["1.5", "1.6"] {
            let body = json!({"extension": "citext", "database": database, "version": version});
            posted(compute, "/extensions", &body, 201).await;
        }
        let body = json!({
            "database": database, "schema": "public", "privileges": ["USAGE", "CREATE"],
            "role": "web_access",
        });
        posted(compute, "/grants", &body, 201).await;
    }
    compute.monitor_has_looked().await;
}

async fn posted(compute: &Compute, path: &str, body: &Value, wanted: u16) {
    let (code, answer) = compute.post_internal(path, body).await;
    assert_eq!(code, wanted, "{path}: {answer}");
}

/// `g` owns things, and holds privileges that others granted.
const OF_G: &str = "CREATE TABLE public.t (a int); CREATE VIEW public.v AS SELECT a FROM public.t; \
    GRANT SELECT ON public.t TO neon_superuser WITH GRANT OPTION; \
    GRANT SELECT ON public.t TO h WITH GRANT OPTION; SET ROLE h; GRANT SELECT ON public.t TO g; \
    RESET ROLE; CREATE TABLE public.of_g (a int); ALTER TABLE public.of_g OWNER TO g";
const SUBSCRIPTION: &str = "CREATE SUBSCRIPTION inherited CONNECTION 'host=127.0.0.1 port=1 \
    dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = 'none', enabled = false)";

#[tokio::test]
async fn shadows_of_everything() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.belongs_to_ann();
        bed.spec.role("g", None).role("h", None).role("web_access", None);
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        for database in HERS {
            compute.run_in(database, OF_G).await;
        }
        compute.run_in("tdb", SUBSCRIPTION).await;
        let powers = compute.powers().await;
        for database in HERS {
            compute.lay_traps(database).await;
        }
        every_route(&mut compute).await;

        bed.spec.roles.retain(|role| role["name"] != "g");
        bed.spec.role("later", None).database("later", "later");
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        bed.spec.member("drop_subscriptions_before_start", json!(true));
        compute.apply(&bed).await;
        let left = "SELECT subname FROM pg_subscription";
        assert!(compute.rows_in("template1", left).await.is_empty());
        compute.has_only(&powers).await;

        // The same data in another start, which runs the steps of a start.
        bed.take_data(compute).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        compute.wait_for_log(COLLECTED).await;
        compute.wait_for_log("Finished migration id=12").await;
        every_route(&mut compute).await;
        compute.ends_with(&powers).await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// A role that may create there can become a superuser, and a member of a superuser is one at once.
#[tokio::test]
async fn no_grants_on_what_is_not_a_tenants() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.belongs_to_ann();
        let mut compute = running_for_catalog(&mut bed).await;
        compute.apply(&bed).await;
        compute.run("CREATE SCHEMA IF NOT EXISTS neon").await;
        compute.run("CREATE SCHEMA IF NOT EXISTS neon_migration").await;
        let powers = compute.powers().await;
        let before = compute.rows("SELECT nspname, nspacl FROM pg_namespace ORDER BY 1").await;
        for (schema, role) in [
            ("pg_catalog", "ann"),
            ("pg_toast", "ann"),
            ("information_schema", "ann"),
            ("neon", "ann"),
            ("neon_migration", "ann"),
            ("public", "cloud_admin"),
        ] {
            let body = json!({
                "database": "postgres", "schema": schema, "privileges": ["CREATE"], "role": role,
            });
            let (code, answer) = compute.post_internal("/grants", &body).await;
            assert_eq!(code, 403, "{schema} {role}: {answer}");
        }
        let after = compute.rows("SELECT nspname, nspacl FROM pg_namespace ORDER BY 1").await;
        assert_eq!(after, before);
        compute.ends_with(&powers).await;
        assert_nothing_left(&bed);
    })
    .await;
}
