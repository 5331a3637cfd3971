//! Databases of the spec: creation, owners, privileges, deletion, renames, and the remains of
//! interrupted runs (05 §21 no. 8 to 10, 12 to 14, 16, 17).

use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{delta, rename, running_for_catalog};
use crate::support::server::{on_every_server, on_one_server};

fn about(name: &str) -> String {
    format!("SELECT pg_get_userbyid(datdba), datacl FROM pg_database WHERE datname = '{name}'")
}

const SCHEMA_OWNER: &str = "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'";
const DEFAULTS: &str = "SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, \
    defaclacl FROM pg_default_acl ORDER BY defaclobjtype";

#[tokio::test]
async fn a_new_database_and_what_is_in_it() {
    on_every_server(|server| async {
        let major = server.major;
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        compute.run("CREATE ROLE web_access").await;
        bed.spec.role("ann", None).role("bob", None);
        bed.spec.databases.push(json!({"name": "store", "owner": "ann", "options": [
            {"name": "TEMPLATE", "value": "template0", "vartype": "enum"},
            {"name": "LC_COLLATE", "value": "C", "vartype": "string"},
            {"name": "LC_CTYPE", "value": "C", "vartype": "string"}]}));
        compute.apply(&bed).await;
        let acl = |owner: &str| {
            format!("{owner}|{{=Tc/{owner},{owner}=CTc/{owner},neon_superuser=CTc/{owner}}}")
        };
        assert_eq!(compute.rows(&about("store")).await, [acl("ann")]);
        let collation = "SELECT datcollate FROM pg_database WHERE datname = 'store'";
        assert_eq!(compute.rows(collation).await, ["C"]);
        let (schema_owner, maintain) = match major {
            14 => ("ann", ""),
            17 => ("pg_database_owner", "m*"),
            _ => ("pg_database_owner", ""),
        };
        assert_eq!(compute.rows_in("store", SCHEMA_OWNER).await, [schema_owner]);
        assert_eq!(
            compute.rows_in("store", DEFAULTS).await,
            [
                "cloud_admin|public|S|{neon_superuser=r*w*U*/cloud_admin}".to_owned(),
                format!(
                    "cloud_admin|public|r|{{neon_superuser=a*r*w*d*D*x*t*{maintain}/cloud_admin}}"
                ),
            ]
        );
        let web = "SELECT has_schema_privilege('web_access', 'public', 'CREATE') \
            AND nspacl::text LIKE '%web_access=C%' FROM pg_namespace WHERE nspname = 'public'";
        let web = compute.rows_in("store", web).await;
        assert_eq!(web[0] == "t", major >= 15, "{web:?}");
        compute.apply_changes_nothing(&bed).await;

        // Some privileges are revoked; the owner changes; the options have no effect on an existing
        // database.
        compute
            .run_in(
                "store",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA public \
                 REVOKE GRANT OPTION FOR DELETE ON TABLES FROM neon_superuser",
            )
            .await;
        bed.spec.databases = vec![json!({"name": "store", "owner": "bob"})];
        compute.apply(&bed).await;
        assert_eq!(compute.rows(&about("store")).await, [acl("bob")]);
        assert_eq!(compute.rows_in("store", DEFAULTS).await.len(), 2);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_listed_or_refuses_sessions_is_left_alone() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        compute.run("CREATE ROLE mine CREATEDB; CREATE ROLE ann").await;
        compute.run("CREATE DATABASE mine OWNER mine").await;
        compute.run("CREATE DATABASE closed ALLOW_CONNECTIONS false").await;
        // `postgres` is a database like others when it is listed.
        bed.spec.role("ann", None).database("closed", "ann").database("postgres", "ann");
        compute.apply(&bed).await;
        compute.assert_logged("\"closed\": it does not accept connections", 1).await;
        let closed = "SELECT pg_get_userbyid(datdba), datallowconn FROM pg_database \
            WHERE datname = 'closed'";
        assert_eq!(compute.rows(closed).await, ["ann|f"]);
        assert_eq!(compute.rows(&about("postgres")).await, ["ann|NULL"]);
        assert_eq!(compute.rows(&about("mine")).await, ["mine|NULL"]);
        assert!(compute.rows_in("mine", DEFAULTS).await.is_empty());
        assert_eq!(compute.rows(DEFAULTS).await.len(), 2);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn deleted_and_renamed() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", None).database("again", "ann").database("in use", "ann");
        compute.apply(&bed).await;
        compute.run("CREATE DATABASE busy IS_TEMPLATE true").await;
        let busy = compute.session_in("busy").await;
        let in_use = compute.session_in("in use").await;
        let oid = "SELECT oid FROM pg_database WHERE datname IN ('again', 'in use', 'renamed')";
        let before = compute.rows(&format!("{oid} ORDER BY datname")).await;
        bed.spec.databases.clear();
        bed.spec.database("again", "ann").database("renamed", "ann");
        bed.spec.member(
            "delta_operations",
            json!([
                delta("delete_db", "busy"),
                delta("delete_db", "unknown"),
                rename("rename_db", "in use", "renamed"),
                delta("paint_db", "again")
            ]),
        );
        // A session does not keep a database from being renamed or deleted.
        compute.apply(&bed).await;
        assert!(busy.batch_execute("SELECT 1").await.is_err());
        assert!(in_use.batch_execute("SELECT 1").await.is_err());
        let there = "SELECT datname FROM pg_database WHERE datname NOT LIKE 'template%' ORDER BY 1";
        assert_eq!(compute.rows(there).await, ["again", "postgres", "renamed"]);
        assert_eq!(compute.rows(&format!("{oid} ORDER BY datname")).await, before, "the same ones");
        compute.apply_changes_nothing(&bed).await;

        // A database that is both deleted and listed is created again.
        bed.spec.member("delta_operations", json!([delta("delete_db", "again")]));
        compute.apply(&bed).await;
        let again = compute.rows("SELECT oid FROM pg_database WHERE datname = 'again'").await;
        assert_ne!(again, before[..1]);

        // The database that now has this name is not the one that the operation meant.
        bed.spec.databases.clear();
        bed.spec.database("renamed", "ann").member(
            "delta_operations",
            json!([delta("delete_db", "renamed"), rename("rename_db", "again", "renamed")]),
        );
        compute.apply(&bed).await;
        let renamed = "SELECT oid FROM pg_database WHERE datname = 'renamed'";
        assert_eq!(compute.rows(renamed).await, again);
        compute.apply_changes_nothing(&bed).await;
        assert_eq!(compute.rows(renamed).await, again);
        compute.assert_logged("database \"renamed\" is not deleted", 1).await;

        compute.run("CREATE DATABASE spare").await;
        compute.run("CREATE DATABASE other").await;
        for (operation, part) in [
            (delta("delete_db", "postgres"), "--connstr is connected to"),
            (rename("rename_db", "spare", "other"), "there is a database of that name"),
        ] {
            bed.spec.member("delta_operations", json!([operation]));
            let error = compute.apply_fails(&bed).await;
            assert!(error.contains(part), "{error}");
            compute.refresh().await;
            compute.wait_for_any(&["running"]).await;
        }
        let nameless = json!([{"action": "rename_db", "name": "renamed"}]);
        bed.spec.member("delta_operations", nameless);
        let error = compute.refuses(&bed).await;
        assert!(error.contains("has no new_name"), "{error}");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The remains of a DROP DATABASE and a CREATE DATABASE that were interrupted.
#[tokio::test]
async fn interrupted_changes_are_finished() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = running_for_catalog(&mut bed).await;
        for name in ["half dropped", "listed", "half made"] {
            compute.run(&format!("CREATE DATABASE \"{name}\"")).await;
        }
        compute
            .run(
                "UPDATE pg_database SET datconnlimit = -2 \
                 WHERE datname IN ('half dropped', 'listed')",
            )
            .await;
        bed.spec.role("ann", None).database("listed", "ann").database("half made", "ann");
        compute.apply(&bed).await;
        let limits = "SELECT datname, datconnlimit, pg_get_userbyid(datdba), \
            datacl::text LIKE '%neon_superuser=CTc/ann%' FROM pg_database \
            WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY 1";
        assert_eq!(compute.rows(limits).await, ["half made|-1|ann|t", "listed|-1|ann|t"]);
        compute.apply_changes_nothing(&bed).await;
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}
