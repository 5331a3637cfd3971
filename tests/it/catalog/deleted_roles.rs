//! Roles that are deleted although they own objects and hold privileges (05 §21 no. 18 to 21, 31).

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{delta, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

#[tokio::test]
async fn what_they_own_and_hold_is_not_an_obstacle() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).role("g", None).role("gr'an\"t$x$or", None);
        bed.spec.database("store", "ann").database("no public", "ann");
        compute.apply(&bed).await;
        // The grantor is the privileged role, of which ann is a member.
        compute
            .run_in(
                "store",
                "CREATE TABLE public.t (a int); CREATE VIEW public.v AS SELECT a FROM public.t; \
                 CREATE SEQUENCE public.s; CREATE SCHEMA elsewhere; \
                 GRANT USAGE ON SCHEMA elsewhere TO neon_superuser; \
                 CREATE TABLE elsewhere.t (a int); \
                 GRANT ALL ON elsewhere.t TO neon_superuser WITH GRANT OPTION; \
                 SET ROLE ann; \
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO g; \
                 GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO g; \
                 SET ROLE neon_superuser; \
                 GRANT UPDATE (a) ON elsewhere.t TO g; \
                 GRANT SELECT ON public.t TO \"gr'an\"\"t$x$or\" WITH GRANT OPTION; \
                 SET ROLE \"gr'an\"\"t$x$or\"; \
                 GRANT SELECT ON public.t TO g",
            )
            .await;
        let grantors = "SELECT DISTINCT grantor FROM information_schema.role_table_grants \
            WHERE grantee = 'g' ORDER BY 1";
        let grantors = compute.rows_in("store", grantors).await;
        assert_eq!(grantors, ["gr'an\"t$x$or", "neon_superuser"]);
        compute
            .run_in(
                "no public",
                "DROP SCHEMA public CASCADE; CREATE SCHEMA s; GRANT CREATE ON SCHEMA s TO g; \
                 CREATE TABLE s.mine (); ALTER TABLE s.mine OWNER TO g; \
                 ALTER DEFAULT PRIVILEGES FOR ROLE g GRANT SELECT ON TABLES TO ann",
            )
            .await;
        compute.run("CREATE TABLE public.t (); ALTER TABLE public.t OWNER TO g").await;
        compute.run("GRANT CONNECT ON DATABASE store TO g; GRANT ann TO g").await;

        bed.spec.roles.retain(|role| role["name"] == "ann");
        bed.spec.member(
            "delta_operations",
            json!([
                delta("delete_role", "g"),
                delta("delete_role", "gr'an\"t$x$or"),
                delta("delete_role", "unknown"),
                delta("paint_role", "ann")
            ]),
        );
        compute.apply(&bed).await;
        let roles = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'g%'";
        assert!(compute.rows(roles).await.is_empty());
        let owner = "SELECT relowner::regrole FROM pg_class WHERE relname = ";
        assert_eq!(compute.rows_in("no public", &format!("{owner}'mine'")).await, ["ann"]);
        assert_eq!(compute.rows(&format!("{owner}'t'")).await, ["cloud_admin"]);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The spec does not list that database.
#[tokio::test]
async fn things_in_a_database_that_is_not_listed_are_in_the_way() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let compute = &mut running_for_catalog(&mut bed).await;
        compute.run("CREATE ROLE g").await;
        compute.run("CREATE DATABASE elsewhere").await;
        compute.run_in("elsewhere", "CREATE TABLE t (); ALTER TABLE t OWNER TO g").await;
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        let error = compute.apply_fails(&bed).await;
        for part in ["could not drop role", "2BP01", "1 object in database elsewhere"] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        compute.assert_logged("holds privileges in database \"elsewhere\"", 1).await;
        assert_eq!(compute.rows("SELECT 1 FROM pg_roles WHERE rolname = 'g'").await, ["1"]);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// Sessions in many databases at once do not block each other.
#[tokio::test]
async fn shared_objects_are_cleaned_up_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None);
        for n in 0..10 {
            bed.spec.database(&format!("d{n}"), "ann");
        }
        bed.spec.member("reconfigure_concurrency", json!(10));
        compute.apply(&bed).await;
        compute.run("CREATE ROLE g").await;
        compute.run("CREATE DATABASE unlisted OWNER g").await;
        for n in 0..10 {
            let grant = format!("GRANT CREATE ON DATABASE d{n} TO g");
            let table = "CREATE TABLE t (); ALTER TABLE t OWNER TO g; CREATE TABLE u (); \
                GRANT SELECT ON u TO g";
            compute.run_in(&format!("d{n}"), &format!("{grant}; {table}")).await;
        }
        bed.spec.member("delta_operations", json!([delta("delete_role", "g")]));
        compute.apply(&bed).await;
        let owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'unlisted'";
        assert_eq!(compute.rows(owner).await, ["cloud_admin"]);
        assert!(compute.rows("SELECT 1 FROM pg_roles WHERE rolname = 'g'").await.is_empty());
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
