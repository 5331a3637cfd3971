//! No setting that a user can attach to a database or a role disturbs an apply or a migration (05
//! weakness 6). The test gives all of them bad values, in every place, at both ends of their
//! ranges.

use compute_ctl::sql::{Session, SessionDeadlines, session_config};
use nix::sys::signal::Signal;
use tokio_postgres::Client;

use crate::support::assertions::{PATIENCE, assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::{on_every_server, pg_version};

/// Where settings are attached; the narrower place wins.
const PLACES: [&str; 6] = [
    "DATABASE postgres",
    "DATABASE \"store\"",
    "ROLE ALL",
    "ROLE cloud_admin",
    "ROLE cloud_admin IN DATABASE postgres",
    "ROLE ALL IN DATABASE \"store\"",
];

/// Settings that `pg_settings` does not show, or that belong to a library that is not loaded.
const HIDDEN: [(&str, &str); 8] = [
    ("role", "'bad_role'"),
    ("session_authorization", "'bad_role'"),
    ("seed", "0.5"),
    ("plpgsql.extra_errors", "'all'"),
    ("plpgsql.variable_conflict", "'use_column'"),
    ("plpgsql.check_asserts", "off"),
    ("pgaudit.log", "'all'"),
    ("neon.forward_ddl", "on"),
];

/// Values for settings of type text. Any setting that is not listed gets a name that does not
/// exist.
const TEXTS: [(&str, &str); 13] = [
    ("DateStyle", "German"),
    ("TimeZone", "Asia/Kathmandu"),
    ("backtrace_functions", "superuser"),
    ("client_encoding", "LATIN1"),
    ("createrole_self_grant", "set, inherit"),
    ("default_text_search_config", "pg_catalog.german"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
    ("timezone_abbreviations", "Australia"),
    ("wal_consistency_checking", "all"),
];

/// The server refuses to attach these to a role.
const REFUSED: [&str; 2] = ["transaction_deferrable", "transaction_isolation"];

#[derive(Clone, Copy, Debug)]
enum End {
    Low,
    High,
}

/// Name and bad value of every setting that a session can have.
async fn bad_settings(client: &Client, end: End) -> Vec<(String, String)> {
    let query = "SELECT name, vartype, setting, min_val, max_val, enumvals FROM pg_settings \
                 WHERE context IN ('user', 'superuser') ORDER BY name";
    let mut settings = Vec::new();
    for row in client.query(query, &[]).await.unwrap() {
        let (name, vartype, now): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if REFUSED.contains(&name.as_str()) {
            continue;
        }
        let value = match vartype.as_str() {
            "bool" if now == "on" => "off".to_owned(),
            "bool" => "on".to_owned(),
            "enum" => {
                let values: Vec<String> = row.get(5);
                let mut others = values.into_iter().filter(|value| *value != now);
                let other = match end {
                    End::Low => others.next(),
                    End::High => others.next_back(),
                };
                // Some builds have one value only.
                let Some(other) = other else { continue };
                format!("'{other}'")
            }
            "integer" | "real" => match end {
                // 0 usually turns the limit off.
                End::Low if name.ends_with("_timeout") => "1".to_owned(),
                // The maximum is what the stack of the process allows, which the server checks.
                _ if name == "max_stack_depth" => row.get(3),
                End::Low => row.get(3),
                End::High => row.get(4),
            },
            _ => {
                let text = TEXTS.iter().find(|(text, _)| *text == name);
                format!("'{}'", text.map_or("no_such_thing", |(_, value)| value))
            }
        };
        settings.push((name, value));
    }
    settings.extend(HIDDEN.map(|(name, value)| (name.to_owned(), value.to_owned())));
    settings
}

/// Sets all of them in all places. The session that does so began earlier and keeps its settings.
async fn set_badly(client: &Client, end: End) {
    let settings = bad_settings(client, end).await;
    assert!(settings.len() > 150, "{settings:?}");
    let mut refused = Vec::new();
    for place in PLACES {
        for (name, value) in &settings {
            let sql = format!("ALTER {place} SET {name} = {value}");
            if let Err(error) = client.batch_execute(&sql).await {
                refused.push(format!("{sql}: {error:?}"));
            }
        }
    }
    assert_eq!(refused, [""; 0]);
}

/// The kind of session under test; other sessions cannot even log in.
async fn hardened(bed: &Bed) -> Session {
    let version = pg_version(&bed.server);
    let config = session_config(&bed.connstr(), "compute_ctl:test", version).unwrap();
    let deadlines = SessionDeadlines { connect: PATIENCE, statement: PATIENCE, lock: PATIENCE };
    Session::connect(&config, deadlines).await.unwrap()
}

async fn text(session: &Session, query: &str) -> String {
    session.query(query).await.unwrap()[0].try_get(0).unwrap().unwrap().to_owned()
}

async fn configure(bed: &Bed, compute: &Compute) {
    let (code, body) = compute.configure(bed).await;
    assert_eq!(code.as_u16(), 200, "{body}\n{}", compute.log());
}

async fn with(bed: &mut Bed, end: End) {
    bed.spec.skip_pg_catalog_updates = false;
    bed.spec.role("ann", None).database("store", "ann");
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    compute.wait_for_log("Finished migration id=12").await;
    let client = compute.sql().await;
    client.batch_execute("CREATE ROLE bad_role").await.unwrap();
    set_badly(&client, end).await;
    let url = bed.connstr();
    assert!(tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_err(), "not that bad");

    // Twice: the second apply must recognise what exists. The password is plain text, so the server
    // hashes it.
    bed.spec.role("bob", Some("plain")).role("eve", None).database("shop", "eve");
    for _ in 0..2 {
        configure(bed, &compute).await;
    }
    bed.spec.databases.retain(|database| database["name"] != "shop");
    bed.spec.database("shop", "bob").database("third", "bob");
    configure(bed, &compute).await;
    let owners = "SELECT string_agg(datname || '/' || pg_catalog.pg_get_userbyid(datdba), ' ' \
                  ORDER BY datname) FROM pg_catalog.pg_database WHERE datname IN ('shop', 'third')";
    let session = hardened(bed).await;
    assert_eq!(text(&session, owners).await, "shop/bob third/bob");
    let again = "UPDATE neon_migration.migration_id SET id = 0";
    session.query(again).await.unwrap();
    drop(session);
    bed.take_data(compute).await;

    // A start in the middle of it, with all migrations.
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    let session = hardened(bed).await;
    let done = "SELECT id FROM neon_migration.migration_id";
    until("all migrations are done", || async { text(&session, done).await == "12" }).await;
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_nothing_left(bed);
}

#[tokio::test]
async fn everything_is_set_to_its_least() {
    on_every_server(|server| async { with(&mut Bed::new(server).await, End::Low).await }).await;
}

#[tokio::test]
async fn everything_is_set_to_its_most() {
    on_every_server(|server| async { with(&mut Bed::new(server).await, End::High).await }).await;
}
