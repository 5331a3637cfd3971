//! What a first start leaves in the catalog (05 §21 no. 1 and 2).

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::{NeonStub, on_every_server, on_one_server};

const PRIVILEGED: &str = "SELECT rolsuper, rolcanlogin, rolcreaterole, rolcreatedb, rolreplication, \
    rolbypassrls, rolpassword FROM pg_authid WHERE rolname = ";

#[tokio::test]
async fn an_empty_spec_makes_what_every_compute_has() {
    on_every_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        let mut bed = Bed::new(stub.server.clone()).await;
        bed.spec.skip_pg_catalog_updates = false;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let role = format!("{PRIVILEGED}'neon_superuser'");
        assert_eq!(compute.rows(&role).await, ["f|f|t|t|t|t|NULL"]);
        let member_of = "SELECT roleid::regrole FROM pg_auth_members \
            WHERE member = 'neon_superuser'::regrole AND roleid::regrole::text LIKE '%all_data' \
            ORDER BY 1";
        let member_of = compute.rows(member_of).await;
        assert_eq!(member_of, ["pg_read_all_data", "pg_write_all_data"]);
        let extension = "SELECT extversion, extnamespace::regnamespace, extowner::regrole \
            FROM pg_extension WHERE extname = 'neon'";
        assert_eq!(compute.rows(extension).await, ["1.6|neon|cloud_admin"]);
        assert_eq!(compute.rows("SELECT id FROM public.health_check").await, ["1"]);
        assert_eq!(compute.count_in_log("has no `neon` extension"), 0);
        compute.apply_changes_nothing(&bed).await;

        // The state that an old installation left.
        compute
            .run(
                "DROP EXTENSION neon; CREATE EXTENSION neon WITH SCHEMA public VERSION '1.5'; \
                 UPDATE pg_extension SET extrelocatable = false WHERE extname = 'neon'",
            )
            .await;
        compute.apply(&bed).await;
        assert_eq!(compute.rows(extension).await, ["1.6|neon|cloud_admin"]);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_privileged_role_can_have_another_name() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        bed.spec.role("ann", None).database("store", "ann");
        let mut args = bed.config_args();
        // A reserved word, which has to be quoted.
        args.extend(["--privileged-role-name", "user"].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut compute = bed.start_with(&args);
        compute.wait_for("running").await;
        assert_eq!(compute.rows(&format!("{PRIVILEGED}'user'")).await, ["f|f|t|t|t|t|NULL"]);
        assert!(compute.rows(&format!("{PRIVILEGED}'neon_superuser'")).await.is_empty());
        let member = "SELECT member::regrole FROM pg_auth_members WHERE roleid = 'user'::regrole";
        assert_eq!(compute.rows(&member.replace("'user'", "'\"user\"'")).await, ["ann"]);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
