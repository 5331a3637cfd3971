//! The output of `compute_ctl check --plan` is what an apply then does, operation by operation, and
//! planning writes nothing.

use compute_ctl::catalog::operation::Action;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, SCRAM, check, delta, rename, running_for_catalog};
use crate::support::server::{Vanilla, on_every_server, on_one_server};

/// Every action. A report has its JSON form, a plan its text.
const ACTIONS: [Action; 18] = [
    Action::Create,
    Action::Alter,
    Action::Rename,
    Action::ChangeOwner,
    Action::Grant,
    Action::GrantDefaults,
    Action::Reassign,
    Action::Revoke,
    Action::DropOwned,
    Action::Drop,
    Action::Release,
    Action::EndSessions,
    Action::DropSubscriptions,
    Action::Record,
    Action::MakeRelocatable,
    Action::Move,
    Action::Update,
    Action::Set,
];

const HOSTILE: &str = "--plan 'd\"q\\ $x$;\n\t(%s) é";

/// As long as this value stays, no transaction has written anything.
const NEXT_TRANSACTION: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())";

/// A line of the plan, and the number of its stage.
type Planned = (usize, String);

async fn plan(bed: &Bed, compute: &Compute) -> (String, Vec<Planned>) {
    let path = bed.write("planned.json", &bed.spec.config()).display().to_string();
    let before = compute.sql_text(NEXT_TRANSACTION).await;
    let checked = check(&["-c", &path, "--plan", "--connstr", &bed.connstr()]).await;
    let text = checked.good().to_owned();
    assert_eq!(compute.sql_text(NEXT_TRANSACTION).await, before, "something was written");
    let (mut stage, mut planned) = (0, Vec::new());
    for line in text.lines() {
        if let Some(number) = line.strip_prefix(" stage ") {
            stage = number.parse().unwrap();
        } else if let Some(operation) = line.strip_prefix("  ") {
            planned.push((stage, operation.to_owned()));
        }
    }
    (text, planned)
}

/// How the plan shows an operation of a report: the text before and after its reason.
fn shown(operation: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (phase, object) = (text(&operation["phase"]), &operation["object"]);
    let is_it = |action: &&Action| json!(action) == operation["action"];
    let action = ACTIONS.iter().find(is_it).unwrap();
    let begin =
        format!("{phase}: {action} {} {:?} (", text(&object["kind"]), text(&object["name"]));
    (begin, format!("), in database {:?} as cloud_admin", text(&operation["database"])))
}

/// Plans, applies and compares. Returns the printed plan.
async fn applied_as_planned(bed: &Bed, compute: &Compute) -> String {
    let (text, mut planned) = plan(bed, compute).await;
    let count = format!(" {} operations, ", planned.len());
    assert!(text.contains(&count), "not {count:?} in\n{text}");
    compute.apply(bed).await;
    let (_, status) = compute.get("/status").await;
    let mut last = 0;
    for operation in status["extra"]["apply_report"]["operations"].as_array().unwrap() {
        assert_eq!(operation["outcome"], "done");
        let (begin, end) = shown(operation);
        let is_it = |(_, line): &Planned| line.starts_with(&begin) && line.ends_with(&end);
        let at = planned.iter().position(is_it);
        let at = at.unwrap_or_else(|| panic!("{operation} is not in\n{text}"));
        let (stage, _) = planned.remove(at);
        assert!(last <= stage, "{operation} comes too late, see\n{text}");
        last = stage;
    }
    assert!(planned.is_empty(), "{planned:?} was not done, see\n{text}");
    text
}

#[tokio::test]
async fn an_apply_does_what_the_plan_says() {
    on_every_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("autovacuum", "off");
        let mut compute = running_for_catalog(&mut bed).await;
        bed.spec.role("ann", Some(SCRAM)).role(HOSTILE, None).database("store", "ann");
        let first = applied_as_planned(&bed, &compute).await;
        assert!(first.contains("create database \"store\""), "{first}");

        // A database that refuses connections, the remains of a DROP DATABASE, a hostile name.
        compute.run("CREATE DATABASE closed ALLOW_CONNECTIONS false").await;
        compute.run("CREATE DATABASE half").await;
        compute.run("CREATE DATABASE listed").await;
        let invalid = "UPDATE pg_database SET datconnlimit = -2 WHERE datname IN ('half', 'listed')";
        compute.run(invalid).await;
        bed.spec.database("closed", HOSTILE).database("listed", "ann").database(HOSTILE, HOSTILE);
        let text = applied_as_planned(&bed, &compute).await;
        let remark = "warning: nothing is done inside database \"closed\": \
                      it does not accept connections";
        assert!(text.lines().any(|line| line == remark), "{text}");
        assert_eq!(text.matches("a DROP DATABASE was interrupted").count(), 2, "{text}");

        // A renamed database with changes inside; one that is deleted and listed at once; a role
        // that owns objects and holds privileges; subscriptions.
        compute.run_in("store", "DROP OWNED BY neon_superuser").await;
        compute.run("CREATE ROLE g").await;
        let owned = "CREATE TABLE public.mine (); ALTER TABLE public.mine OWNER TO g";
        compute.run_in(HOSTILE, owned).await;
        let subscription = "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 dbname=x' \
            PUBLICATION p WITH (connect = false, slot_name = NONE)";
        compute.run_in(HOSTILE, subscription).await;
        bed.spec.databases.clear();
        for name in ["closed", "listed", HOSTILE] {
            bed.spec.database(name, HOSTILE);
        }
        bed.spec.database("shop", "ann").member("drop_subscriptions_before_start", json!(true));
        bed.spec.member(
            "delta_operations",
            json!([
                rename("rename_db", "store", "shop"),
                delta("delete_db", "listed"),
                delta("delete_role", "g")
            ]),
        );
        let text = applied_as_planned(&bed, &compute).await;
        for part in ["rename database \"store\"", "drop subscriptions of", "drop role \"g\""] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let inside = "grant default privileges in schema \"public\" (missing on tables), in database \
            \"shop\"";
        assert!(text.contains(inside), "{text}");

        // The same spec again, without the operations that repeat each time, plans nothing.
        let operations = json!([rename("rename_db", "store", "shop"), delta("delete_role", "g")]);
        bed.spec.member("delta_operations", operations);
        let text = applied_as_planned(&bed, &compute).await;
        assert!(text.contains(" 0 operations, "), "{text}");
        compute.end().await;
        assert_nothing_left(&bed);
    })
    .await;
}

fn write_document(folder: &tempfile::TempDir) -> String {
    let document = json!({
        "spec": {
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "drop_subscriptions_before_start": true,
            "cluster": {"roles": [{"name": "ann"}], "settings": [],
                "databases": [{"name": "store", "owner": "ann"}]},
            "tenant_id": "51b0c7e2a94d4c06b3f7d1e8a2640f9c",
            "timeline_id": "e7d25a1c90b84f3fa6120c4b8d93f57e",
            "pageserver_connstring": "postgres://no_user@127.0.0.1:1",
            "safekeeper_connstrings": ["127.0.0.1:1"]
        },
        "compute_ctl_config": {"jwks": {"keys": []}}
    });
    let path = folder.path().join("config.json");
    std::fs::write(&path, document.to_string()).unwrap();
    path.display().to_string()
}

/// Reading a table of a tenant has the side effect of a write.
#[tokio::test]
async fn its_sessions_cannot_write() {
    on_one_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let trap = "CREATE TABLE public.caught (); CREATE SCHEMA neon;
            CREATE FUNCTION public.trap() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO public.caught DEFAULT VALUES;
                RETURN 'none';
            END $$;
            CREATE VIEW neon.drop_subscriptions_done AS SELECT 1 AS id, public.trap() AS timeline_id";
        vanilla.client.batch_execute(trap).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = write_document(&folder);
        for url in [
            vanilla.url(),
            format!("{}?options=-c%20default_transaction_read_only%3Doff", vanilla.url()),
        ] {
            let checked = check(&["-c", &path, "--plan", "--connstr", &url]).await;
            // The plan does not even read it.
            let refused = "table neon.drop_subscriptions_done is not used: it is not an ordinary table";
            assert!(checked.bad().contains(refused), "{checked:?}");
        }
        // Each login writes, unless triggers are off.
        if server.major >= 17 {
            let at_login = "DROP VIEW neon.drop_subscriptions_done;
                CREATE FUNCTION public.at_login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM public.trap();
                END $$;
                CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION public.at_login()";
            vanilla.client.batch_execute(at_login).await.unwrap();
            check(&["-c", &path, "--plan", "--connstr", &vanilla.url()]).await.good();
        }
        let caught = vanilla.client.query("SELECT FROM public.caught", &[]).await.unwrap();
        assert_eq!(caught.len(), 0);
        vanilla.stop().await;
    })
    .await;
}

/// Settings of users that would end or mislead the sessions, including settings of newer servers.
#[tokio::test]
async fn its_sessions_are_hardened_for_the_server() {
    on_every_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let folder = tempfile::tempdir().unwrap();
        let path = write_document(&folder);
        let before = check(&["-c", &path, "--plan", "--connstr", &vanilla.url()]).await;
        vanilla.client.batch_execute("CREATE ROLE bad_role").await.unwrap();
        let mut settings = vec![
            "statement_timeout = 1",
            "idle_session_timeout = 1",
            "role = bad_role",
            "search_path = bad_role",
            "standard_conforming_strings = off",
        ];
        if server.major >= 16 {
            settings.push("icu_validation_level = error");
        }
        if server.major >= 17 {
            settings.push("transaction_timeout = 1");
        }
        for setting in settings {
            let sql = format!("ALTER DATABASE postgres SET {setting}");
            vanilla.client.batch_execute(&sql).await.unwrap();
        }
        let checked = check(&["-c", &path, "--plan", "--connstr", &vanilla.url()]).await;
        assert_eq!(checked.good(), before.good());
        vanilla.stop().await;
    })
    .await;
}
