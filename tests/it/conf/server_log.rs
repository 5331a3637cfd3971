//! Postgres' log on the program's stderr (01 §20.2): joined, unchanged, and it never blocks
//! Postgres.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::support::assertions::{PATIENCE, assert_nothing_left};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// One RAISE per text, in one statement.
fn raise(texts: &[&str]) -> String {
    let lines: String = texts.iter().map(|text| format!("RAISE LOG E'{text}'; ")).collect();
    format!("DO $$ BEGIN {lines} END $$")
}

#[tokio::test]
async fn a_message_is_one_line() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let texts = ["first one\\nsecond half", "another message"];
        compute.sql().await.batch_execute(&raise(&texts)).await.unwrap();
        compute.wait_for_log("another message").await;
        let log = compute.log();
        let line = |part: &str| log.lines().find(|line| line.contains(part)).unwrap().to_owned();
        let joined = line("first one");
        assert!(joined.starts_with("PG:"), "{joined}");
        assert!(joined.contains("first one\u{200B}\tsecond half"), "{joined}");
        assert!(!joined.contains("another message"), "{joined}");
        assert!(line("another message").starts_with("PG:"));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The original's log ends at the first such byte (01 §24 no. 39).
#[tokio::test]
async fn a_byte_that_is_not_utf8_does_not_end_it() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.before_server("printf 'odd \\377 byte\\n' >&2");
        let mut compute = bed.start();
        compute.wait_for("running").await;
        // Postgres itself writes such bytes, too: an SQL_ASCII database takes any bytes.
        let session = compute.sql().await;
        let make = "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' \
                    TEMPLATE template0";
        session.batch_execute(make).await.unwrap();
        let bytes = compute.connstr.replace("/postgres", "/bytes");
        let (client, connection) =
            tokio_postgres::connect(&bytes, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&raise(&["raw \\xff byte"])).await.unwrap();
        client.batch_execute(&raise(&["still there"])).await.unwrap();
        compute.wait_for_log("still there").await;
        let log = compute.log_bytes();
        for part in [b"PG:odd \xff byte\n".as_slice(), b"raw \xff byte"] {
            assert!(log.windows(part.len()).any(|window| window == part), "{}", compute.log());
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A tenant cannot clear the reader's terminal or overwrite the beginning of a line.
#[tokio::test]
async fn control_characters_are_escaped() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.before_server("printf 'odd \\033[2J line\\n' >&2");
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let text = "red \\x1b[31m\\rPG:forged\\ttab \\u009b2J end";
        compute.sql().await.batch_execute(&raise(&[text])).await.unwrap();
        compute.wait_for_log("PG:odd \\x1b[2J line").await;
        compute.wait_for_log("red \\x1b[31m\\rPG:forged\ttab \\u{9b}2J end").await;
        let log = compute.log();
        let raw = |c: char| c.is_control() && c != '\t' && c != '\n';
        assert!(!log.contains(raw), "{log:?}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A pipe in place of a log reader; the reading end is open, so that writes succeed.
fn pipe(path: &Path) -> std::fs::File {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let nonblocking = OFlag::O_NONBLOCK.bits();
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path).unwrap()
}

/// Reads until a text has come.
async fn read_until(pipe: &mut std::fs::File, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let (mut all, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match pipe.read(&mut chunk) {
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(_) => {
                let seen = String::from_utf8_lossy(&all);
                if seen.contains(text) {
                    return seen.into_owned();
                }
                let end = &seen[seen.len().saturating_sub(1000)..];
                assert!(Instant::now() < deadline, "no {text:?}, but ...{end}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// A compute whose stderr goes into a pipe.
fn start_into(bed: &Bed, path: &Path) -> Compute {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$@\" 2> \"$0\""]).arg(path);
    let mut args = bed.base_args();
    args.extend(bed.config_args());
    Compute::spawn_through(bed, shell, &args)
}

/// Far more than the pipe and the log's budget hold; `PATIENCE` limits how long it may take.
async fn flood(compute: &Compute) {
    let session = compute.sql().await;
    let lines = "DO $$ BEGIN FOR i IN 1..8000 LOOP \
                 RAISE LOG 'line % %', i, repeat('x', 1000); END LOOP; END $$";
    tokio::time::timeout(PATIENCE, session.batch_execute(lines)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_stalls_costs_lines_and_nothing_else() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let path = bed.dir().join("stderr");
        let mut pipe = pipe(&path);
        let mut compute = start_into(&bed, &path);
        compute.wait_for("running").await;
        flood(&compute).await;
        assert_eq!(compute.sql_text("SELECT 6 * 7").await, "42");
        assert_eq!(compute.get("/status").await.1["status"], "running");
        let text = read_until(&mut pipe, "lines dropped").await;
        assert!(text.contains("log reader too slow"), "{}", text.lines().last().unwrap());
        // Which lines are missing depends on timing; the last ones may have waited in a pipe.
        let written = text.matches(" xxx").count();
        assert!(text.contains("line 1 xxx") && written < 8000, "{written} lines");
        // After that the log is complete again.
        compute.sql().await.batch_execute(&raise(&["here again"])).await.unwrap();
        read_until(&mut pipe, "here again").await;

        // A reader that stalls again does not delay the end either.
        flood(&compute).await;
        compute.signal(Signal::SIGTERM);
        assert_eq!(compute.wait_exit_within(Duration::from_secs(15)).await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}
