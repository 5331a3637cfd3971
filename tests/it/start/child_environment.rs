//! The environment of children: only the server and the sync get the token for the control plane,
//! and no child gets pgbouncer's password.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, put, put_program};
use crate::support::process::{Marked, try_start};
use crate::support::server::on_one_server;

const TOKEN: &str = "NEON_CONTROL_PLANE_TOKEN";
const PASSWORD: &str = "PGBOUNCER_PASSWORD";

/// Replaces each program of the installation by a script that records its environment.
fn record(bed: &Bed) -> PathBuf {
    let journal = bed.dir().join("pg/environment.journal");
    put(&journal, "");
    let note = |name: &str| {
        format!(
            "echo {name} \"$1\" \"${{{TOKEN}-none}}\" \"${{{PASSWORD}-none}}\" \
             \"${{OTHER-none}}\" >> '{}'",
            journal.display()
        )
    };
    for name in ["pg_config", "pg_dump", "pg_isready", "initdb"] {
        let real = bed.server.program(name);
        let then = match real.exists() {
            true => format!("exec '{}' \"$@\"", real.display()),
            false => "exit 1".to_owned(),
        };
        // `pg_config` is asked for the version, whether the server has it or not.
        if name != "pg_config" || real.exists() {
            let program = bed.pgbin.with_file_name(name);
            put_program(&program, &format!("{}\n{then}", note(name)));
        }
    }
    let wrapped = bed.pgbin.with_file_name("postgres.recorded");
    fs::rename(&bed.pgbin, &wrapped).unwrap();
    let script = format!(
        "# Knows --sync-safekeepers.\n{}\nexec '{}' \"$@\"",
        note("postgres"),
        wrapped.display()
    );
    put_program(&bed.pgbin, &script);
    journal
}

#[tokio::test]
async fn the_token_is_for_the_server_and_the_sync_only() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        // The safekeepers do not agree, so the start needs a sync as well.
        bed.safekeepers.iter().for_each(|it| it.behave(|it| it.commit_lsn -= 8));
        let journal = record(&bed);
        // The token comes from a file that ends in a line break.
        let env = [(TOKEN, "planted-token\n"), (PASSWORD, "planted-password"), ("OTHER", "stays")];
        let mut compute = bed.start_with_env(&env);
        compute.wait_for("running").await;
        let environment = fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        let lines: Vec<_> = environment.split(|byte| *byte == 0).collect();
        assert!(lines.contains(&b"NEON_CONTROL_PLANE_TOKEN=planted-token".as_slice()));
        assert!(lines.contains(&b"OTHER=stays".as_slice()));
        // These requests start programs, whatever their result.
        compute.get("/database_schema?database=postgres").await;
        compute.get("/hadron_liveness_probe").await;
        bed.spec.set("work_mem", "8MB");
        compute.configure(&bed).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        let journal = fs::read_to_string(journal).unwrap();
        assert!(!journal.contains("planted-password"), "{journal}");
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for line in journal.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [name, first, token, "none", "stays"] = words[..] else { panic!("{line}") };
            match token {
                "planted-token" => with.push((name, first)),
                "none" => without.push(name),
                _ => panic!("{line}"),
            }
        }
        with.sort_unstable();
        with.dedup();
        assert_eq!(with, [("postgres", "--sync-safekeepers"), ("postgres", "-D")], "{journal}");
        for name in ["pg_dump", "pg_isready", "postgres"] {
            assert!(without.contains(&name), "{name} was not started: {journal}");
        }
        assert!(!compute.log().contains("planted"), "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}

/// At once, and not after half a minute of requests that cannot be sent.
#[tokio::test]
async fn a_line_break_inside_is_refused_with_the_name_of_the_variable() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let mut from_nowhere = bed.base_args();
        from_nowhere.extend(["-p", "http://127.0.0.1:1", "-i", "c1"].map(str::to_owned));
        let from_file = [bed.base_args(), bed.config_args()].concat();
        for name in [TOKEN, PASSWORD] {
            for line in [&from_nowhere, &from_file] {
                let refusal = try_start(&bed, line, &[(name, "planted\nplanted")]).await;
                let text = format!("{name} has a line break inside: correct its value\n");
                assert_eq!(refusal.error(), text);
                assert!(!refusal.stderr.contains("planted"), "{}", refusal.stderr);
            }
        }
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}
