//! Command lines that are wrong: exit code 2, text on stderr, no effect.

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, put_program};
use crate::support::process::{Marked, try_start};
use crate::support::server::on_one_server;

#[tokio::test]
async fn usage_errors_end_with_2() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let config = bed.config_args().pop().unwrap();
        let base = bed.base_args();
        let with = |more: &[&str]| -> Vec<String> {
            base.iter().cloned().chain(more.iter().map(ToString::to_string)).collect()
        };
        let id = ["-i", "c1"];
        let without_port: Vec<String> = base
            .iter()
            .take(6)
            .cloned()
            .chain(["-i", "c1", "-c", &config].map(Into::into))
            .collect();
        let cases: Vec<(Vec<String>, &str)> = vec![
            (Vec::new(), "--pgdata"),
            (with(&id), "<--config <FILE>|--spec <FILE>"),
            (with(&["-c", &config]), "--compute-id"),
            (with(&["-p", "http://127.0.0.1:1"]), "--compute-id"),
            (with(&["-i", "c1", "-c", &config, "-p", "http://127.0.0.1:1"]), "--control-plane-uri"),
            (with(&["-i", "c1", "-c", &config, "-S", &config]), "--spec"),
            (with(&["-S", &config, "-i", "c1", "-p", "http://127.0.0.1:1"]), "--control-plane-uri"),
            (with(&["-i", "c1", "-c", &config, "--nonsense"]), "--nonsense"),
            (with(&["-i", "c1", "-c", &config, "--pgport", "1"]), "'--external-http-port'"),
            (with(&["-i", "c1", "-c", &config, "--http-port", "1"]), "--http-port"),
            (with(&["-i", "c1", "-c", &config, "--privileged-role-name", "Abc"]), "lower-case"),
            (with(&["-i", "c1", "-c", &config, "--privileged-role-name", "a1"]), "lower-case"),
            (with(&["-i", "c1", "-c", &config, "--privileged-role-name="]), "lower-case"),
            (with(&["-i", "c1", "-c", &config, "--lakebase-mode"]), "--lakebase-mode"),
            (with(&["-i", "c1", "-c", &config, "-r", "http://gw?a=b"]), "query"),
            (with(&["-i", "c1", "-c", &config, "--stop-timeout", "0"]), "--stop-timeout"),
            (
                with(&["-i", "c1", "-c", &config, "--internal-http-bind", "localhost"]),
                "--internal-http-bind",
            ),
            (with(&["-i", "c1", "-c", &config, "--signal-exit-code", "256"]), "--signal-exit-code"),
            (
                without_port
                    .iter()
                    .cloned()
                    .chain(["--http-port=1", "--internal-http-port=2"].map(Into::into))
                    .collect(),
                "--http-port",
            ),
        ];
        for (line, text) in cases {
            let refusal = try_start(&bed, &line, &[]).await;
            assert_eq!(refusal.code, Some(2), "{line:?}\n{}", refusal.stderr);
            assert!(refusal.stderr.contains(text), "{line:?}\n{}", refusal.stderr);
            assert!(refusal.stderr.starts_with("error: "), "{line:?}\n{}", refusal.stderr);
        }
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}

/// Values that clap cannot check end the process with 1, before it changes anything.
#[tokio::test]
async fn unusable_values_end_with_1() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let config = bed.config_args();
        let replaced = |flag: &str, value: &str| -> Vec<String> {
            let mut line = bed.base_args();
            line.extend(config.iter().cloned());
            let at = line.iter().position(|word| word == flag).unwrap();
            line[at + 1] = value.to_owned();
            line
        };
        let secret = "postgresql://cloud_admin:planted-secret@[/postgres";
        let old = bed.dir().join("old/postgres");
        put_program(&old, "echo 'postgres (PostgreSQL) 13.3'");
        let old = old.display().to_string();
        let client = bed.server.program("pg_ctl").display().to_string();
        let host = |port: u16| format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres");
        let other_port = format!("port {}, but Postgres will listen on port {}", 1, bed.port);
        let cases = [
            (replaced("--connstr", &host(1)), &*other_port),
            (replaced("--pgbin", "/bin/ls"), "/bin/ls is not "),
            (replaced("--pgbin", &client), "is not the Postgres server"),
            (replaced("--connstr", "nonsense"), "--connstr is not a URL"),
            (replaced("--connstr", "host=localhost user=cloud_admin"), "--connstr is not a URL"),
            (replaced("--connstr", "http://localhost/"), "--connstr is not a Postgres"),
            (replaced("--connstr", secret), "--connstr"),
            (replaced("--connstr", "postgresql:///postgres"), "--connstr names no host"),
            (replaced("--config", "/no/such/config.json"), "could not read /no/such/config.json"),
            (replaced("--pgbin", "/no/such/postgres"), "/no/such/postgres"),
            (replaced("--pgbin", &old), "is not a supported Postgres (14 to 17)"),
        ];
        for (line, text) in cases {
            let refusal = try_start(&bed, &line, &[]).await;
            assert!(refusal.error().contains(text), "{text}: {}", refusal.stderr);
            assert!(!refusal.stderr.contains("planted-secret"), "{}", refusal.stderr);
        }
        marked.assert_untouched();
        assert_eq!(bed.pageserver.journal().connections(), 0);

        // A missing parent is not made, and neither is PGDATA in it.
        bed.place_pgdata("no/such/pgdata");
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let refusal = try_start(&bed, &line, &[]).await;
        assert!(refusal.error().contains("parent"), "{}", refusal.stderr);
        assert!(!bed.dir().join("no").exists());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn help_and_version_end_with_0() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let version = format!("compute_ctl {}", env!("CARGO_PKG_VERSION"));
        for (flag, text) in [
            ("--help", "--control-plane-uri"),
            ("-h", "--control-plane-uri"),
            ("--version", &version),
        ] {
            let refusal = try_start(&bed, &[flag.to_owned()], &[]).await;
            assert_eq!(refusal.code, Some(0), "{}", refusal.stderr);
            assert!(refusal.stderr.contains(text), "{}", refusal.stderr);
        }
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}
