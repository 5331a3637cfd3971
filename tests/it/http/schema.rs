//! `/database_schema`: a dump of any database, complete or visibly broken (03 §5.5, T17).

use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Response;
use serde_json::json;
use url::form_urlencoded::byte_serialize;

use crate::support::assertions::{assert_nothing_left, eventually, until};
use crate::support::bed::{Bed, put_program};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const COMPLETE: &str = "-- PostgreSQL database dump complete";

async fn ask(compute: &Compute, database: &str) -> Response {
    let database: String = byte_serialize(database.as_bytes()).collect();
    let url = format!("{}/database_schema?database={database}", compute.external);
    compute.http.get(url).send().await.unwrap()
}

async fn answer(compute: &Compute, database: &str) -> (u16, String) {
    let response = ask(compute, database).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    (response.status().as_u16(), response.text().await.unwrap())
}

fn error(text: &str) -> String {
    json!({"error": text}).to_string()
}

/// Children of the compute by the name of their program.
fn dumps(compute: &Compute) -> Vec<i32> {
    let me = compute.pid();
    let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mine = procs::all().unwrap().into_iter().filter(|process| process.ppid == me);
    mine.map(|process| process.pid).filter(|pid| name(*pid).starts_with("pg_dump")).collect()
}

#[tokio::test]
async fn of_every_name() {
    on_one_server(|server| async {
        let has_pg_dump = server.program("pg_dump").exists();
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let (code, text) = answer(&compute, "no such database").await;
        if !has_pg_dump {
            assert_eq!((code, text), (500, error("failed to execute pg_dump")));
            compute.wait_for_log("could not start").await;
        } else {
            assert_eq!((code, text), (404, error("database does not exist")));
            every_name(&compute).await;
            let (code, text) = answer(&compute, "template0").await;
            assert_eq!((code, text), (500, error("failed to execute pg_dump")));
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A dump by the test's own session, with the same settings.
const OWN_OPTIONS: &str =
    "-c role=cloud_admin -c idle_session_timeout=0 -c local_preload_libraries=";

async fn every_name(compute: &Compute) {
    let sql = compute.sql().await;
    sql.batch_execute("CREATE ROLE powerless").await.unwrap();
    for (number, name) in [
        "plain",
        "two words",
        " leading and trailing ",
        "dbname=postgres host=/nowhere",
        "postgresql://nowhere/postgres",
        "it's \"quoted\" \\",
        "-f",
        "100%20&database=postgres+",
        "🦀\t🦀",
    ]
    .into_iter()
    .enumerate()
    {
        let quoted = name.replace('"', "\"\"");
        sql.batch_execute(&format!("CREATE DATABASE \"{quoted}\"")).await.unwrap();
        // Settings of users must not interfere.
        for set in [
            "role = powerless",
            "idle_session_timeout = 1",
            "local_preload_libraries = 'no_such_library'",
        ] {
            sql.batch_execute(&format!("ALTER DATABASE \"{quoted}\" SET {set}")).await.unwrap();
        }
        let mut config: tokio_postgres::Config = compute.connstr.parse().unwrap();
        let connected = config.dbname(name).options(OWN_OPTIONS).connect(tokio_postgres::NoTls);
        let (client, connection) = connected.await.unwrap();
        let connection = tokio::spawn(connection);
        client
            .batch_execute(&format!("CREATE TABLE public.number_{number} (x int)"))
            .await
            .unwrap();
        drop(client);
        connection.await.unwrap().unwrap();

        let (code, text) = answer(compute, name).await;
        assert_eq!(code, 200, "{name:?}: {text}");
        let tables = text.matches("CREATE TABLE").count();
        assert!(text.contains(&format!("CREATE TABLE public.number_{number} (")), "{name:?}");
        assert_eq!(tables, 1, "{name:?}");
        assert!(text.trim_end_matches(['-', '\n']).contains(COMPLETE), "{name:?}");
    }
}

#[tokio::test]
async fn without_a_name() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        for (query, text) in [
            ("", "missing field `database`"),
            ("?other=x", "missing field `database`"),
            ("?database=a&database=b", "duplicate field `database`"),
        ] {
            let (code, body) = compute.get(&format!("/database_schema{query}")).await;
            let error = format!("failed to deserialize query string: {text}");
            assert_eq!((code.as_u16(), body), (400, json!({"error": error})));
        }
        // Postgres does not run.
        let (code, text) = answer(&compute, "postgres").await;
        assert_eq!((code, text), (500, error("failed to execute pg_dump")));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// When a client leaves, the program and its session end, although the session waits for a user's
/// lock.
#[tokio::test]
async fn no_request_waits_for_it() {
    on_one_server(|server| async {
        if !server.program("pg_dump").exists() {
            return;
        }
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let mut sql = compute.sql().await;
        sql.batch_execute("CREATE TABLE public.taken (x int)").await.unwrap();
        let lock = sql.transaction().await.unwrap();
        lock.batch_execute("LOCK TABLE public.taken").await.unwrap();

        let url = format!("{}/database_schema?database=postgres", compute.external);
        let asking = tokio::spawn(compute.http.get(url).send());
        let waits = "SELECT count(*) FROM pg_stat_activity \
                     WHERE application_name = 'compute_ctl:pg_dump'";
        let blocked = format!("{waits} AND wait_event_type = 'Lock'");
        until("it waits", || async { compute.sql_text(&blocked).await == "1" }).await;
        assert_eq!(dumps(&compute).len(), 1);
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        eventually("the program is gone", || dumps(&compute).is_empty()).await;
        until("its session is gone", || async { compute.sql_text(waits).await == "0" }).await;
        lock.rollback().await.unwrap();

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The rest of a body; an error if it does not end as it should.
async fn rest(mut response: Response) -> Result<usize, reqwest::Error> {
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await? {
        bytes += chunk.len();
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_broken_dump_is_not_a_whole_one() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let program = bed.pgbin.with_file_name("pg_dump");

        put_program(&program, "echo begun; echo trouble >&2; exit 3");
        // The connection can break before or after the head of the answer was sent.
        let url = format!("{}/database_schema?database=postgres", compute.external);
        if let Ok(response) = compute.http.get(url).send().await {
            assert_eq!(response.status(), 200);
            rest(response).await.unwrap_err();
        }
        compute.wait_for_log("pg_dump: trouble").await;
        compute.wait_for_log("pg_dump is given up: it ended with exit status: 3").await;

        put_program(&program, "echo begun; exec sleep 86400");
        let mut response = ask(&compute, "postgres").await;
        assert_eq!(response.chunk().await.unwrap().unwrap(), "begun\n");
        // The first piece can come before the shell has exec'ed the other program.
        let me = compute.pid();
        let child = || {
            procs::all().unwrap().into_iter().find(|process| {
                let line =
                    std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
                process.ppid == me && line.starts_with(b"sleep\0")
            })
        };
        eventually("it sleeps", || child().is_some()).await;
        kill(Pid::from_raw(child().unwrap().pid), Signal::SIGKILL).unwrap();
        rest(response).await.unwrap_err();

        // Neither much output on stderr nor on stdout blocks it.
        let flood = "head -c 1000000 /dev/zero | tr '\\0' 'e' >&2; \
                     head -c 3000000 /dev/zero | tr '\\0' 'o'";
        put_program(&program, flood);
        let response = ask(&compute, "postgres").await;
        assert_eq!(rest(response).await.unwrap(), 3_000_000);

        // A client that stops reading early.
        put_program(&program, "exec cat /dev/zero");
        let response = ask(&compute, "postgres").await;
        assert_eq!(response.status(), 200);
        drop(response);
        compute.wait_for_log("pg_dump is given up: the client no longer takes the output").await;

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
