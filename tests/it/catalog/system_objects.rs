//! What the system database gets and users' databases do not: schema and extension `neon`, the table
//! of the availability check, statistics, audit (05 §7.8, §7.10 to §7.12, §7.15, §21 no. 38).

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::running_for_catalog;
use crate::support::server::{NeonStub, on_every_server, on_one_server};

const EXTENSIONS: &str = "SELECT extname, extnamespace::regnamespace, extowner::regrole \
    FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1";
const AUDIT: &str = "SELECT datname, setconfig FROM pg_db_role_setting \
    LEFT JOIN pg_database ON pg_database.oid = setdatabase WHERE setrole = 0";
const CHECKED: &str = "SELECT id, updated_at > now() - interval '1 h' FROM public.health_check";

#[tokio::test]
async fn each_is_made_where_it_belongs_and_left_alone_after_that() {
    on_every_server(|server| async move {
        let stub = NeonStub::new(&server).await;
        for name in ["pg_stat_statements", "pgaudit"] {
            stub.add_extension(name);
        }
        let mut bed = Bed::new(stub.server.clone()).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).database("store", "ann");
        compute.apply(&bed).await;
        let schema = "SELECT nspowner::regrole, nspacl FROM pg_namespace WHERE nspname = 'neon'";
        assert_eq!(compute.rows(schema).await, ["cloud_admin|NULL"]);
        assert_eq!(compute.rows(EXTENSIONS).await, ["neon|neon|cloud_admin"]);
        let columns = "SELECT column_name, data_type, is_nullable, column_default, identity_generation \
            FROM information_schema.columns WHERE table_name = 'health_check' ORDER BY ordinal_position";
        assert_eq!(
            compute.rows(columns).await,
            [
                "id|integer|NO|NULL|BY DEFAULT",
                "updated_at|timestamp with time zone|YES|now()|NULL"
            ]
        );
        let key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint \
            WHERE conrelid = 'public.health_check'::regclass AND contype = 'p'";
        assert_eq!(compute.rows(key).await, ["PRIMARY KEY (id)"]);
        assert_eq!(compute.rows(CHECKED).await, ["1|t"]);
        assert!(compute.rows_in("store", EXTENSIONS).await.is_empty());
        let ours = "SELECT 1 FROM pg_class WHERE relname = 'health_check' \
            UNION ALL SELECT 2 FROM pg_namespace WHERE nspname LIKE 'neon%'";
        assert!(compute.rows_in("store", ours).await.is_empty());

        // Each apply reads, none writes.
        compute.run("UPDATE public.health_check SET updated_at = '2001-02-03'").await;
        bed.spec.set("shared_preload_libraries", "pg_stat_statements");
        bed.spec.member("audit_log_level", json!("Base"));
        compute.apply(&bed).await;
        assert_eq!(compute.rows(CHECKED).await, ["1|f"]);
        let extensions = [
            "neon|neon|cloud_admin",
            "pg_stat_statements|public|cloud_admin",
            "pgaudit|public|cloud_admin",
        ];
        assert_eq!(compute.rows(EXTENSIONS).await, extensions);
        assert_eq!(compute.rows(AUDIT).await, ["postgres|{pgaudit.log=none}"]);
        compute.apply_changes_nothing(&bed).await;

        // Objects that are not wanted any more stay.
        bed.spec.settings.shift_remove("shared_preload_libraries");
        bed.spec.member("audit_log_level", json!("Disabled"));
        compute.apply_changes_nothing(&bed).await;
        assert_eq!(compute.rows(EXTENSIONS).await, extensions);
        assert_eq!(compute.rows(AUDIT).await, ["postgres|{pgaudit.log=none}"]);
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// An extension that the server does not have ends the apply; later steps are not executed.
#[tokio::test]
async fn without_the_extension_there_is_no_audit() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        let there = "SELECT name FROM pg_available_extensions WHERE name = 'pgaudit'";
        if !compute.rows(there).await.is_empty() {
            compute.end().await;
            return println!("skipped: this server has pgaudit");
        }
        bed.spec.member("audit_log_level", json!("Base"));
        let error = compute.apply_fails(&bed).await;
        assert!(error.contains("could not create extension \\\"pgaudit\\\""), "{error}");
        assert!(compute.rows(AUDIT).await.is_empty());
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
